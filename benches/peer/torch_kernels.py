"""The PyTorch side of `compare`: reads one case a line as JSON, answers with the seconds of the fastest of some runs.

Stays alive, so that its runs and ours can take turns. Needs `pip install torch numpy`.
"""
import json
import sys
import time

import torch
import torch.nn.functional as F


def backward(run, x):
    """The gradients of a run with respect to x, the run itself outside the timing."""
    for t in x:
        t.requires_grad_()
    y = run()
    g = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, x, g, retain_graph=True)


def prepare(case):
    kind, s = case["kind"], case["shape"]
    torch.set_default_dtype({"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[case["dtype"]])
    forward = kind.removesuffix("_backward").removesuffix("_backward_weight")
    gradients = forward != kind
    if forward == "gemm":
        m, n, k = s
        x, w, b = torch.randn(m, k), torch.randn(n, k), torch.randn(n)
        return lambda: F.linear(x, w, b)
    if forward == "attention":
        q, k, v = torch.randn(s), torch.randn(s[0], s[1], case["keys"], s[3]), torch.randn(s[0], s[1], case["keys"], s[3])
        run = lambda: F.scaled_dot_product_attention(q, k, v)
        return backward(run, [q, k, v]) if gradients else run
    if forward == "conv3d":
        # Of the video nobody wants a gradient.
        x, w = torch.randn(1, 3, 32, 224, 224), torch.randn(768, 3, *s)
        run = lambda: F.conv3d(x, w, stride=tuple(case["stride"]))
        return backward(run, [w]) if gradients else run
    if forward == "conv3d_depthwise":
        # The better of its two layouts.
        planar = torch.randn(1, 768, 8, 14, 14)

        def layout(x):
            w = torch.randn(768, 1, *s)
            run = lambda: F.conv3d(x, w, padding=tuple(case["padding"]), groups=768)
            return backward(run, [x, w]) if gradients else run

        layouts = [layout(planar), layout(planar.clone(memory_format=torch.channels_last_3d))]
        return min(layouts, key=lambda f: best(f, 3))
    if forward == "layer_norm":
        x, w, b = torch.randn(s), torch.randn(s[-1]), torch.randn(s[-1])
        run = lambda: F.layer_norm(x, (s[-1],), w, b, 1e-6)
        return backward(run, [x, w, b]) if gradients else run
    if forward == "softmax":
        x = torch.randn(s)
        return lambda: x.softmax(-1)
    if forward == "gelu":
        x = torch.randn(s)
        return lambda: F.gelu(x, approximate=case["approximate"])
    if forward == "gelu_quick":
        x = torch.randn(s)
        return lambda: x * torch.sigmoid(1.702 * x)
    if forward == "interpolate":
        x = torch.randn(s)
        return lambda: F.interpolate(x, size=tuple(case["size"]), mode="trilinear")
    raise ValueError(kind)


def best(run, n):
    seconds = []
    for _ in range(n):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(int(sys.argv[1]))
    prepared = {}
    for line in sys.stdin:
        case = json.loads(line)
        with torch.inference_mode("backward" not in case["kind"]):
            if line not in prepared:
                # One at a time: the results that backward passes keep are large.
                prepared = {line: prepare(case)}
                best(prepared[line], 2)
            print(best(prepared[line], case["runs"]), flush=True)


main()
