"""A process that measures PyTorch on one device: one network at a time, and ensembles of networks.

TF32 is off, as in dlbench. Images are on the device, nothing is read back during an epoch, and the fastest memory
format and optimizer are chosen for each network and batch size. On a GPU, each way is measured launched step by step,
and with the step captured as a CUDA graph.

Reference: https://docs.pytorch.org/tutorials/intermediate/ensembling.html
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from dlbench import data
from dlbench.bench.serving import serve
from dlbench.bench.torch_reference import VARIANTS, Variant, make_optimizer, make_torch, tensors

#: Steps before a measurement, and before a step is captured.
_WARM_UP = 3
#: Beyond this many seconds for an epoch, one sample is enough.
_LONG_S = 2.0
#: A step trains on the images of these indices, int64 [batch], or [lanes, batch] of an ensemble.
Step = Callable[[Any], None]


class Networks:
    """What is measured."""

    def prepare(self, train_size: int, device: str) -> None:
        """Put the data on the device."""
        self.device = torch.device("cuda" if device == "gpu" else "cpu")
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        self._train_size = train_size
        self._dataset = data.load("mnist5k")

    def measure(
        self, model: str, batch_size: int, optimizer: str, lanes: int, repeats: int, sample_s: float
    ) -> dict[str, Any]:
        """Images per second of all lanes, by way; or why there are none."""
        found: dict[str, Any] = {"samples": {}, "failures": {}}

        def make(capturable: bool) -> Step:
            if lanes > 1:
                return self.ensemble(model, optimizer, lanes)
            return self.one(model, batch_size, optimizer, capturable)

        name = "eager" if lanes == 1 else "ensemble"
        self.reset_peak()
        ways: dict[str, Callable[[], Any]] = {name: lambda: make(False)}
        if self.device.type == "cuda":
            ways["graph" if lanes == 1 else "ensemble_graph"] = lambda: self.captured(
                make(True), self.indices(lanes)[..., :batch_size]
            )
        for way, build in ways.items():
            try:
                found["samples"][way] = self._timed(build(), batch_size, lanes, repeats, sample_s)
            except Exception as error:
                text = str(error)
                found["failures"][way] = (
                    "out of memory"
                    if "out of memory" in text.lower()
                    else f"{type(error).__name__}: {text[:300]}"
                )
        if lanes == 1:
            found["variant"] = self.variant._asdict()
        if self.device.type == "cuda":
            found["peak_bytes"] = torch.cuda.max_memory_allocated()
            torch.cuda.empty_cache()
        if not found["samples"]:
            found["failed"] = next(iter(found["failures"].values()))
        return found

    def reset_peak(self) -> None:
        """Begin to measure memory."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def wait(self) -> None:
        """Wait until the device has done everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def indices(self, lanes: int) -> Any:
        """A random order of the images for each lane, int64 [train size] or [lanes, train size]."""
        shape = (len(self._dataset.train_labels),) if lanes == 1 else (lanes, len(self._dataset.train_labels))
        return torch.rand(shape, device=self.device).argsort(-1)[..., : self._train_size]

    def _timed(self, step: Step, batch_size: int, lanes: int, repeats: int, sample_s: float) -> list[float]:
        def epoch() -> float:
            start = time.perf_counter()
            for part in self.indices(lanes).split(batch_size, dim=-1):
                step(part)
            self.wait()
            return time.perf_counter() - start

        for part in self.indices(lanes).split(batch_size, dim=-1)[:_WARM_UP]:
            step(part)
        self.wait()
        epoch_s = epoch()
        count = math.ceil(sample_s / epoch_s)
        images = lanes * self._train_size
        return [
            count * images / math.fsum(epoch() for _ in range(count))
            for _ in range(repeats if epoch_s < _LONG_S else 1)
        ]

    def one(self, model: str, batch_size: int, optimizer: str, capturable: bool = False) -> Step:
        """A step of the fastest variant."""
        tried = []
        for variant in VARIANTS:
            step = self.step_of(model, optimizer, variant, capturable)
            parts = self.indices(1).split(batch_size)[: 8 * _WARM_UP]
            for part in parts[: 2 * _WARM_UP]:
                step(part)
            self.wait()
            start = time.perf_counter()
            for part in parts:
                step(part)
            self.wait()
            tried.append((time.perf_counter() - start, variant, step))
        _, self.variant, chosen = min(tried, key=lambda each: each[0])
        return chosen

    def images(self, variant: Variant) -> tuple[Any, Any]:
        """All images and labels on the device."""
        arrays = self._dataset.train_images, self._dataset.train_labels
        x, y = (each.to(self.device) for each in tensors(*arrays, variant))
        return x, y

    def step_of(self, model: str, optimizer: str, variant: Variant, capturable: bool = False) -> Step:
        """A training step of one network; ``capturable`` if it is to become a CUDA graph."""
        net = variant.place(make_torch(model).to(self.device)).train()
        tx = make_optimizer(net, optimizer, 1e-3, variant=variant)
        if capturable and optimizer == "adam":
            for group in tx.param_groups:
                group["capturable"] = True
        x, y = self.images(variant)
        self.net = net

        def step(part: Any) -> None:
            tx.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(net(x[part]), y[part]).backward()
            tx.step()

        return step

    def ensemble(self, model: str, optimizer: str, lanes: int) -> Step:
        """A training step of as many networks as there are lanes, with a learning rate each."""
        nets = [make_torch(model, seed).to(self.device) for seed in range(min(lanes, 4))]
        nets = [nets[lane % len(nets)] for lane in range(lanes)]
        params, buffers = torch.func.stack_module_state(nets)
        params = {name: value.detach().clone() for name, value in params.items()}
        base = copy.deepcopy(nets[0]).train().to("meta")
        x, y = self.images(Variant())
        rates = torch.logspace(-4, -2, lanes, device=self.device)
        names = list(params)
        values = [params[name] for name in names]
        scale = [rates.reshape(-1, *[1] * (value.ndim - 1)) for value in values]
        moments = [[torch.zeros_like(value) for value in values] for _ in range(2)]
        steps = torch.zeros((), device=self.device)

        def loss_of(params: Any, buffers: Any, x: Any, y: Any) -> Any:
            logits = torch.func.functional_call(base, (params, buffers), (x,))
            return nn.functional.cross_entropy(logits, y)

        gradient = torch.func.vmap(torch.func.grad(loss_of), randomness="different")

        def sgd(grads: list[Any]) -> None:
            torch._foreach_mul_(moments[0], 0.9)
            torch._foreach_add_(moments[0], grads)
            torch._foreach_sub_(values, torch._foreach_mul(moments[0], scale))

        def adam(grads: list[Any]) -> None:
            steps.add_(1)
            torch._foreach_lerp_(moments[0], grads, 0.1)
            torch._foreach_mul_(moments[1], 0.999)
            torch._foreach_addcmul_(moments[1], grads, grads, 0.001)
            root = torch._foreach_sqrt(moments[1])
            torch._foreach_div_(root, (1 - 0.999**steps).sqrt())
            torch._foreach_add_(root, 1e-8)
            update = torch._foreach_div(moments[0], root)
            torch._foreach_mul_(update, scale)
            torch._foreach_div_(update, 1 - 0.9**steps)
            torch._foreach_sub_(values, update)

        update = {"sgd": sgd, "adam": adam}[optimizer]

        def step(part: Any) -> None:
            grads = gradient(params, buffers, x[part], y[part])
            update([grads[name] for name in names])

        return step

    def captured(self, step: Step, example: Any) -> Step:
        """A step as a CUDA graph; the last step of an epoch, of fewer images, is launched as it is."""
        part = example.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                step(part)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step(part)

        def replay(indices: Any) -> None:
            if indices.shape != part.shape:
                step(indices)
                return
            part.copy_(indices)
            graph.replay()

        return replay


if __name__ == "__main__":
    networks = Networks()
    serve({"prepare": networks.prepare, "measure": networks.measure})
