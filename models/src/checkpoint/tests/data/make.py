"""Writes saved.pth, legacy.pth and script.pt, as PyTorch 2.15 saves them, with values that the tests know, and seeds for fuzzing."""

import argparse
import collections
import datetime
import os
import shutil
import tempfile
import zipfile

import numpy as np
import torch

here = os.path.dirname(os.path.abspath(__file__))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(3, 2)
        self.bn = torch.nn.BatchNorm1d(2)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(2, 2, bias=False)])
        self.scale = torch.nn.Parameter(torch.tensor([0.5, -0.5]).half())
        self.sizes = [1, 2]
        self.flag = True
        with torch.no_grad():
            self.fc.weight.copy_(torch.arange(6.0).reshape(2, 3))
            self.fc.bias.copy_(torch.tensor([7.0, 8.0]))
            self.layers[0].weight.copy_(torch.eye(2))
            self.bn.num_batches_tracked.fill_(5)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.bn(self.fc(x))


net = Net()
base = torch.arange(24.0).reshape(2, 3, 4)
state = collections.OrderedDict(("module." + k, v.clone()) for k, v in net.state_dict().items())
state._metadata = net.state_dict()._metadata
state.update({
    "module.t.permuted": base.permute(2, 0, 1),
    "module.t.sliced": base[:, 1:, ::2],
    "module.t.channels_last": base.reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last),
    "module.t.bf16": torch.tensor([1.5, -2.0]).bfloat16(),
    "module.t.f64": torch.tensor([1.5, -2.0]).double(),
    "module.t.u8": torch.tensor([1, 255], dtype=torch.uint8),
    "module.t.bool": torch.tensor([True, False]),
    "module.t.i32": torch.tensor([1, -2], dtype=torch.int32),
    "module.t.i64": torch.tensor([[3], [-4]]),
    "module.t.scalar": torch.tensor(3.5),
    "module.t.empty": torch.zeros(0, 3),
    "module.t.parameter": torch.nn.Parameter(torch.tensor([9.0])),
})
optimiser = torch.optim.AdamW(net.fc.parameters())
net.fc(torch.ones(1, 3)).sum().backward()
optimiser.step()
torch.save(
    {
        "epoch": 3,
        "lr": 0.1,
        "seed": 2**70,
        "cfg": "MODEL: net\n",
        "shape": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "optimizer_state": optimiser.state_dict(),
        "model_state": state,
        "none": None,
    },
    os.path.join(here, "saved.pth"),
)

# The format from before version 1.6.
weight = torch.arange(6.0).reshape(2, 3)
torch.save(
    {
        "epoch": torch.tensor(3),
        "args": argparse.Namespace(lr=0.1),
        "freqs": torch.zeros(2, dtype=torch.complex64),
        "state_dict": {
            "weight": weight,
            "shared": weight.view(-1)[2:4],
            "permuted": weight.t(),
            "half": torch.tensor([0.5, -0.5]).half(),
        },
    },
    os.path.join(here, "legacy.pth"),
    _use_new_zipfile_serialization=False,
)

# TorchScript, without the compiled code and its debugging tables.
with tempfile.TemporaryDirectory() as folder:
    full = os.path.join(folder, "script.pt")
    torch.jit.script(Net()).save(full)
    with zipfile.ZipFile(full) as old, zipfile.ZipFile(os.path.join(here, "script.pt"), "w") as new:
        for item in old.infolist():
            if "/code/" not in item.filename:
                new.writestr(zipfile.ZipInfo(item.filename), old.read(item))


# Seeds for the fuzz target `checkpoint`: without checksums, so that altered pickles are read.
torch.serialization.set_crc32_options(False)
seeds = os.path.join(here, "../../../../../fuzz/seeds/checkpoint")
beside = {
    "negative": torch._neg_view(torch.ones(2)),
    "numpy-scalar": np.float64(81.2),
    "numpy-array": np.zeros(3),
    "set": {"head", "norm"},
    "namespace": argparse.Namespace(lr=1e-3),
    "reduce": datetime.datetime(2026, 1, 2),
    "sparse": torch.eye(2).to_sparse(),
    "uint16": torch.zeros(3).to(torch.uint16),
    "repeated": torch.zeros(1).expand(4),
}
for name, value in beside.items():
    torch.save({"model": {"module.w": torch.ones(2)}, "x": value}, os.path.join(seeds, name + ".pth"))
shutil.copy(os.path.join(here, "legacy.pth"), seeds)
for protocol in (1, 5):
    content = {"w": torch.ones(2), "x": [1, 2**80, "text", b"bytes", (1.5, None), {"set"}]}
    name = os.path.join(seeds, f"protocol-{protocol}.pth")
    torch.save(content, name, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
