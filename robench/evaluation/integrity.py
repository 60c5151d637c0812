"""Whether a model, and what torch is set to, are still as they were before foreign code was called."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from robench.search.classifier import Classifier

IMAGES = 8
"""On which the answers are compared."""

ROUNDING = 1e-4
"""Logits that differ by less than this share of the largest one are the same."""


class Integrity:
    """What the copies of a model were like when they were made: weights, buffers, modes, and their answers on a few
    images x [B, ...], if those repeat; beside it the settings of torch."""

    def __init__(self, copies: Iterable[Classifier], x: Tensor, *, repeats: bool) -> None:
        self._x = x[:IMAGES]
        self._settings = _settings()
        self._known: dict[Classifier, tuple[dict[str, Tensor], dict[str, bool], Tensor | None]] = {}
        for copy in copies:
            self.add(copy, answers=repeats)

    def begin(self) -> None:
        """Remembers the settings of torch as they are."""
        self._settings = _settings()

    def add(self, copy: Classifier, *, answers: bool = False) -> None:
        """Remembers a copy as it is; its answers too, where they must repeat to the last digits."""
        if copy not in self._known:
            answered = self._answers(copy) if answers else None  # first, for a model may count its calls in a buffer
            state = {name: tensor.clone() for name, tensor in _state(copy.model).items()}
            self._known[copy] = (state, _modes(copy.model), answered)

    def broken(self) -> str | None:
        """What is no longer as it was, in a sentence; the settings of torch are put back."""
        found = [f"{name} was set to {value}" for name, value in _settings().items() if value != self._settings[name]]
        _restore(self._settings)
        for copy, (state, modes, answers) in self._known.items():
            now = _state(copy.model)
            changed = [name for name, tensor in state.items() if not _same(tensor, now.get(name))]
            changed += sorted(set(now) - set(state))
            if changed:
                found.append(f"the model's {changed[0]} changed")
            elif _modes(copy.model) != modes:
                found.append("the model was put in another mode")
            elif answers is not None and (otherwise := self._otherwise(copy, answers)):
                found.append(otherwise)
        return f"{'; '.join(dict.fromkeys(found))} while the attack ran" if found else None

    def _otherwise(self, copy: Classifier, answers: Tensor) -> str:
        """How a copy's answers are not those of before; empty where they are."""
        try:
            return (
                ""
                if _alike(answers, self._answers(copy))
                else ("the model answers otherwise than before on the same images")
            )
        except Exception as error:  # whatever the user's model does
            return f"the model answers no more on the same images ({type(error).__name__})"

    def _answers(self, copy: Classifier) -> Tensor:
        before = copy.forwards
        with torch.no_grad():
            logits = copy.logits_once(self._x)
        copy.forwards = before  # no query of an attack
        return logits


def _state(model: nn.Module) -> dict[str, Tensor]:
    return dict([*model.named_parameters(), *model.named_buffers()])


def _modes(model: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules()}


def _same(before: Tensor, now: Tensor | None) -> bool:
    if now is None or before.shape != now.shape or before.dtype != now.dtype:
        return False
    return torch.equal(before, now) or bool(torch.equal(before.isnan(), now.isnan()) and before.isnan().any())


def _alike(before: Tensor, now: Tensor) -> bool:
    if before.shape != now.shape or not torch.equal(before.isfinite(), now.isfinite()):
        return False
    finite = before.isfinite()
    if not finite.any():
        return True
    gap, largest = (before[finite] - now[finite]).abs().max(), before[finite].abs().max()
    return bool(gap <= ROUNDING * largest)


def _settings() -> dict[str, Any]:
    return {
        "the default dtype": torch.get_default_dtype(),
        "the default device": torch.get_default_device(),
        "gradients enabled": torch.is_grad_enabled(),
        "the number of threads": torch.get_num_threads(),
        "deterministic algorithms": _determinism(),
    }


def _restore(settings: dict[str, Any]) -> None:
    torch.set_default_dtype(settings["the default dtype"])
    if torch.get_default_device() != settings["the default device"]:
        torch.set_default_device(settings["the default device"])
    torch.set_grad_enabled(settings["gradients enabled"])
    torch.set_num_threads(settings["the number of threads"])
    if (determinism := settings["deterministic algorithms"]) != _determinism():  # setting it imports a compiler
        torch.use_deterministic_algorithms(determinism[0], warn_only=determinism[1])


def _determinism() -> tuple[bool, bool]:
    """Whether algorithms must be deterministic, and whether one that is not is merely warned of."""
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
