"""The PyTorch side of `compare`: reads one case a line as JSON, answers with the seconds of the fastest of some runs.

Stays alive, so that its runs and ours can take turns. Needs `pip install torch numpy`.
"""
import json
import sys
import time

import torch
import torch.nn.functional as F


def prepare(case):
    kind, s = case["kind"], case["shape"]
    torch.set_default_dtype({"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[case["dtype"]])
    if kind == "gemm":
        m, n, k = s
        x, w, b = torch.randn(m, k), torch.randn(n, k), torch.randn(n)
        return lambda: F.linear(x, w, b)
    if kind == "attention":
        q, k = torch.randn(s), torch.randn(s[0], s[1], case["keys"], s[3])
        return lambda: F.scaled_dot_product_attention(q, k, k)
    if kind == "attention_backward":
        # The gradient alone: what the forward pass keeps is there.
        with torch.inference_mode(False):
            q = torch.randn(s, requires_grad=True)
            k, v = (torch.randn(s[0], s[1], case["keys"], s[3], requires_grad=True) for _ in range(2))
            y = F.scaled_dot_product_attention(q, k, v)
            g = torch.randn(s)

        def backward():
            with torch.inference_mode(False):
                torch.autograd.grad(y, (q, k, v), g, retain_graph=True)
        return backward
    if kind == "conv3d":
        x, w = torch.randn(1, 3, 32, 224, 224), torch.randn(768, 3, *s)
        return lambda: F.conv3d(x, w, stride=tuple(case["stride"]))
    if kind == "conv3d_depthwise":
        # The better of its two layouts.
        w = torch.randn(768, 1, *s)
        planar = torch.randn(1, 768, 8, 14, 14)
        last = planar.contiguous(memory_format=torch.channels_last_3d)
        run = lambda x: F.conv3d(x, w, padding=tuple(case["padding"]), groups=768)
        return min((lambda: run(planar)), (lambda: run(last)), key=lambda f: best(f, 3))
    if kind == "layer_norm":
        x, w = torch.randn(s), torch.randn(s[-1])
        return lambda: F.layer_norm(x, (s[-1],), w, w, 1e-6)
    if kind == "softmax":
        x = torch.randn(s)
        return lambda: x.softmax(-1)
    if kind == "gelu":
        x = torch.randn(s)
        return lambda: F.gelu(x, approximate=case["approximate"])
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
    with torch.inference_mode():
        for line in sys.stdin:
            case = json.loads(line)
            if line not in prepared:
                prepared[line] = prepare(case)
                best(prepared[line], 2)
            print(best(prepared[line], case["runs"]), flush=True)


main()
