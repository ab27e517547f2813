"""PyTorch's error of bf16, beside ours: `torch_accuracy.py PEER THREADS`, of kernels and of the models in the peer program PEER.

Prints one JSON object: for each name max |bf16 - f32| / max |f32|, both from the same numbers, rounded to bf16.
"""
import importlib.util
import json
import sys

import torch
import torch.nn.functional as F


def error(run, *inputs):
    inputs = [x.bfloat16() for x in inputs]
    low, high = run(*inputs).double(), run(*[x.float() for x in inputs]).double()
    return ((low - high).abs().max() / high.abs().max()).item()


def kernels():
    r = torch.randn
    yield "gemm 1576×768×3072", error(F.linear, r(1576, 3072), r(768, 3072), r(768))
    heads = [r(1, 12, 540, 64) for _ in range(3)]
    yield "attention joint 540", error(F.scaled_dot_product_attention, *heads)
    yield "conv3d [8, 8, 8]", error(lambda x, w: F.conv3d(x, w, stride=(16, 32, 32)), r(1, 3, 32, 224, 224), r(768, 3, 8, 8, 8))
    depthwise = lambda x, w: F.conv3d(x, w, padding=1, groups=768)
    yield "conv3d_depthwise [3, 3, 3]", error(depthwise, r(1, 768, 8, 14, 14), r(768, 1, 3, 3, 3))
    yield "layer_norm 1576×768", error(lambda x, w: F.layer_norm(x, (768,), w, w, 1e-6), r(1576, 768), r(768))
    yield "softmax 2364×197", error(lambda x: x.softmax(-1), r(2364, 197))
    yield "gelu_erf 1576×3072", error(F.gelu, r(1576, 3072))
    yield "gelu_tanh 1576×3072", error(lambda x: F.gelu(x, approximate="tanh"), r(1576, 3072))


def models(path):
    spec = importlib.util.spec_from_file_location("peer", path)
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    for name in ("tubevit-b", "vivit-fe-b", "vidtr-s", "uniformerv2-b-sth"):
        # Weights are rounded, the video is held exactly.
        model = peer.MODELS[name]().eval()
        x = torch.randn(1, *model.shape).bfloat16()
        high = model(x.float()).double()
        low = model.bfloat16()(x).double()
        yield name, ((low - high).abs().max() / high.abs().max()).item()


def main():
    torch.manual_seed(0)
    torch.set_num_threads(int(sys.argv[2]))
    with torch.inference_mode():
        print(json.dumps(dict([*kernels(), *models(sys.argv[1])])))


main()
