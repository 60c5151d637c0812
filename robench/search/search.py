"""What an attack may call: passes of the model at points, random numbers, and the lengths and shapes of its threat.

An attack never judges. It moves candidates; each forward pass that it needs anyway also tells whether the candidate
fooled the model. The judge verifies that, and a broken example leaves the run, with all the state the attack keeps.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from robench.access import Access, reveals
from robench.losses import Loss, check_self_contained, evaluated
from robench.search.classifier import Classifier, Layer, Output
from robench.search.judge import Judge
from robench.search.libraries import process
from robench.search.libraries.model import LibraryModel
from robench.search.outcome import Outcome
from robench.search.points import aligned, in_one_row, leading, repeated
from robench.search.record import CHANGED, Record
from robench.search.resources import Resources
from robench.search.rng import Draws
from robench.search.working_set import State
from robench.threat import ThreatModel
from robench.utils.containment import contained
from robench.utils.errors import AttackError, UserError
from robench.utils.global_rng import reproducible, undisturbed
from robench.utils.sizes import Size, parse_size
from robench.utils.threads import torch_threads


class Search:
    """One attack on a batch of examples, restarts included.

    Points are [B, ...], one for each active example, or [B, k, ...], k for each; what is computed at them has the same
    leading dimensions. `batch_size` is the number of points that makes a good batch. Passes are made by `classifier`;
    a library's attack is given `loaded`, the model as it was loaded, where that is another.

    With `drop=False` broken examples stay: every run goes to its last iterate (the papers' reading `final`). `watch` is
    told the active examples at each step, and the share of their run that is done. `prefixes` are shorter numbers of
    steps: after a run, `prefix_outcomes[n]` is what a run of n steps would have found, where its last iterate is the
    next point that this one shows the model.
    """

    def __init__(
        self,
        classifier: Classifier,
        judge: Judge,
        threat: ThreatModel,
        x: Tensor,
        y: Tensor,
        draws: Draws,
        *,
        loaded: Classifier | None = None,
        access: Access = "gradients",
        drop: bool = True,
        batch_size: int = 128,
        resources: Resources | None = None,
        watch: Callable[[int, float], None] = lambda active, share: None,
        prefixes: Collection[int] = (),
    ) -> None:
        self.threat, self.batch_size, self.resources = threat, batch_size, resources or Resources()
        self.prefix_outcomes: dict[int, Outcome] = {}
        self._classifier, self._loaded, self._access = classifier, loaded or classifier, access
        self._record = Record(x, y, draws, judge, drop=drop)
        self._watch, self._prefixes, self._step, self._restart, self._restarts = watch, prefixes, 0, 0, 1
        self._queries = access != "gradients"  # passes are queries of a black box
        self._limits: tuple[Tensor, Tensor, Tensor] | None = None  # of the pixels of x, for l-infinity
        self._projected: tuple[Tensor, int] | None = None  # what `project` gave last, as it was then

    def run(self, attack: Callable[["Search"], Any], restarts: int = 1, first: int = 0) -> Outcome:
        """Drives the attack to its end, each restart on the examples not broken before, and gives what it found."""
        with torch.no_grad():
            for restart in range(first, first + restarts):
                self._record.begin(restart)
                self._step, self._projected = 0, None
                self._restart, self._restarts = restart - first, restarts
                if not len(self._record):
                    break
                with contained("the attack"):
                    attack(self)
                self._record.check_originals()
                self._record.end()
            self._record.judge_untried()
            for steps in self._prefixes:  # which it did not reach, for all were broken
                self.prefix_outcomes.setdefault(steps, self._record.outcome)
        return self._record.outcome

    # The examples

    @property
    def x(self) -> Tensor:
        """The images [B, ...] of the active examples as they are."""
        return self._record.active.x

    @x.setter
    def x(self, _: Tensor) -> None:
        raise AttackError(CHANGED)

    @property
    def y(self) -> Tensor:
        """Their labels [B]."""
        return self._record.active.y

    @y.setter
    def y(self, _: Tensor) -> None:
        raise AttackError(CHANGED)

    @property
    def draws(self) -> Draws:
        """Their random streams."""
        return self._record.active.draws

    @property
    def eps(self) -> float:
        return self.threat.eps

    @property
    def shape(self) -> Sequence[int]:
        return self.x.shape[1:]

    @cached_property
    def classes(self) -> int:
        """The number of classes; the first time it costs a pass of one image, which is not counted."""
        return self._classifier.logits(self._record.x[:1]).shape[1]

    @property
    def stochastic(self) -> bool:
        return self._record.judge.votes > 1

    @property
    def best(self) -> tuple[Tensor, Tensor]:
        """Of each example the candidate [B, ...] of largest margin in this run, and that margin [B]; x and -inf where
        there was none."""
        return self._record.active.best, self._record.active.margin

    @property
    def earlier(self) -> Tensor:
        """The largest margin [B] of the runs before this one; -inf in the first."""
        return self._record.earlier

    def state(self, **tensors: Tensor) -> State:
        """Registers tensors [B, ...] that must stay aligned with the active examples."""
        state = State(**tensors)
        self._record.states.add(state)
        return state

    def stop(self, hopeless: Tensor) -> None:
        """Spends no more of this run on these examples, of all [B]. They leave at once, as broken ones do."""
        self._record.stop(hopeless)

    # The course of a run

    def steps(self, count: int) -> Iterator[int]:
        """Counts steps; between two of them, or after a few, broken examples leave. Ends early when none is active."""
        for step in range(count):
            if step % self._classifier.tuning.patience == 0:
                self._record.verify()
            if not len(self._record):
                return
            self._watch(len(self._record), (self._restart + step / count) / self._restarts)
            leaving = self._record.active.pending.clone()
            yield step
            if step in self._prefixes:
                self.prefix_outcomes[step] = self._record.ended_here(leaving, self._classifier.draws)
            self._step += 1
        self._record.verify()

    def groups(self, count: int) -> Iterator[range]:
        """Counts tries of each example, as many at a time as fill a batch; between two groups broken ones leave."""
        done = 0
        while done < count:
            self._record.verify()
            if not len(self._record):
                return
            self._watch(len(self._record), (self._restart + done / count) / self._restarts)
            size = min(max(self.batch_size // len(self._record), 1), count - done)
            yield range(done, done + size)
            done += size
        self._record.verify()

    # The threat

    def size(self, written: Size) -> float:
        """The value of a length such as "eps/4" or 2/255."""
        return parse_size(written, self.eps)

    def random_start(self, step: int = 0) -> Tensor:
        """A uniform point of the ball around each x, projected into the box; another for another `step`."""
        if self.threat.norm == "linf":
            offset = self.threat.ball_point(self.draws.uniform("start", self.shape, step))
        else:
            radius, direction = self.draws.uniform("radius", (), step), self.draws.normal("start", self.shape, step)
            offset = self.threat.ball_point(radius, direction)
        return self.project(self.x + offset)

    def project(self, points: Tensor) -> Tensor:
        """The nearest points within the threat."""
        flat = in_one_row(points, self.x)
        if points.shape != self.x.shape or self.threat.norm != "linf":
            return self.threat.project(flat, repeated(self.x, flat)).view_as(points)
        if self._limits is None or self._limits[0] is not self.x:
            self._limits = (self.x, *self.threat.limits(self.x))
        projected = points.clamp(*self._limits[1:])
        if not projected.is_inference():
            self._projected = projected, projected._version
        return projected

    def steepest(self, gradient: Tensor) -> Tensor:
        """The unit step that raises the loss most: the sign for l-infinity, the direction for l2."""
        return self.threat.steepest(in_one_row(gradient, self.x)).view_as(gradient)

    # Passes of the model

    def offer(self, x_adv: Tensor) -> None:
        """Shows candidates to the model: one forward pass each. Those outside the threat are marked invalid.

        What was offered last is the last iterate; of several the last one.
        """
        flat = in_one_row(x_adv, self.x)
        if not len(flat):
            return
        within = self.threat.contains(flat, repeated(self.x, flat))
        self._record.offer(flat, within)
        self._forward(flat, within)

    def query(self, points: Tensor) -> Tensor:
        """What a black-box attack sees at points, which may lie outside the threat: logits [..., C], or, for one that
        declares `labels`, predictions [...]. Those within the threat are candidates too."""
        logits, before = self._forward(in_one_row(points, self.x), self._within(points)), leading(points, self.x)
        return logits.argmax(1).view(before) if self._access == "labels" else logits.view(*before, logits.shape[1])

    def value(self, points: Tensor, loss: Loss, *beside: Tensor) -> Tensor:
        """The loss of the logits at each point, [B] or [B, k], for attacks that see scores: a query each. The loss is
        as `gradient` has it."""
        self._require("scores")
        check_self_contained(loss)
        before = leading(points, self.x)
        logits = self.query(points).flatten(0, len(before) - 1)
        values = evaluated(loss, logits, repeated(self.y, logits), *aligned(points, self.x, beside))
        return values.view(before)

    def gradient(self, points: Tensor, loss: Loss, *beside: Tensor, of: Output = "logits") -> Tensor:
        """d loss / d point at each point: one forward and one backward pass. What is not finite counts as 0.

        `loss(output [n, ...], y [n], *beside [n, ...])` gives a value for each of n points, of its own output alone;
        `beside` holds what belongs to each example, [B, ...], or where the points are [B, k, ...] to each of them:
        [B, k, ...], or for all k alike [B] or [B, 1, ...]. `of` names what of the model the loss is given. Points are
        candidates too where they lie within the threat; they may lie outside.

        Raises AttackError for a loss that gives anything but [n] or that carries tensors with it, and for a `beside`
        of another length.
        """
        return self.value_and_gradient(points, loss, *beside, of=of)[1]

    def value_and_gradient(
        self, points: Tensor, loss: Loss, *beside: Tensor, of: Output = "logits"
    ) -> tuple[Tensor, Tensor]:
        """As `gradient`, after the loss at each point."""
        self._require("gradients")
        flat, before = in_one_row(points, self.x), leading(points, self.x)
        if not len(flat):
            return points.new_zeros(before), points
        y, rows = repeated(self.y, flat), aligned(points, self.x, beside)
        logits, value, gradient = self._classifier.differentiate(flat, y, loss, *rows, of=of)
        self._count(flat, backwards=True)
        self._record.observe(flat, logits, self._within(points), self._step)
        return value.view(before), gradient.nan_to_num(0.0, 0.0, 0.0).contiguous().view_as(points)

    def features(self, images: Tensor, layer: Layer) -> Tensor:
        """Features of other images [B, ...] or [B, k, ...], as [n, ...] in one row; a forward pass each."""
        self._require("gradients")
        flat = in_one_row(images, self.x)
        self._count(flat)
        return self._classifier.features(flat, layer)[0]

    # Other code and other models

    @contextmanager
    def as_module(self, *, expected: bool = True) -> Iterator[nn.Module]:
        """The model as a library's attack may call it, on any batch of points, with gradients only for those who
        declared them; of a stochastic one the mean over draws, or one draw where the library takes its own mean. Its
        passes are shared out equally among the active examples; what it does to global random states, tracing and
        warnings is undone."""
        before = (self._loaded.forwards, self._loaded.backwards)
        self._watch(len(self.x), 0.0)
        with undisturbed(self.x.device):
            yield LibraryModel(self._loaded, differentiable=self._access == "gradients", expected=expected)
        forwards, backwards = self._loaded.forwards - before[0], self._loaded.backwards - before[1]
        self._record.share(forwards, backwards, queries=self._queries)
        self._watch(len(self.x), (self._restart + 1) / self._restarts)

    @contextmanager
    def train_against(self) -> Iterator[nn.Module]:
        """The model, frozen, for an attack that trains a network of its own against it. Global random numbers start at
        the attack's seed and are put back afterwards. Its passes are the run's, of no example."""
        self._require("gradients")
        self._watch(len(self.x), 0.0)
        with undisturbed(self.x.device), reproducible(self.draws.seed), torch.enable_grad():
            yield LibraryModel(self._loaded, differentiable=True)

    def attack_surrogate(self, source: Classifier, attack: Callable[["Search"], Any]) -> Tensor:
        """Where a white-box attack on another model ends, for each example [B, ...]; none is dropped there, and what
        fools that model means nothing here. Its passes count."""
        judge, memory = Judge(source, self.threat), self.resources.elsewhere(source)
        elsewhere = Search(source, judge, self.threat, self.x, self.y, self.draws, drop=False, resources=memory)
        elsewhere.batch_size, elsewhere._watch = self.batch_size, self._watch
        outcome = elsewhere.run(attack, first=self.draws.restart)
        self._record.charge(self._record.active.rows, outcome)
        return outcome.last

    def isolated(
        self,
        function: Callable[..., Tensor],
        *tensors: Tensor,
        seconds: float,
        ready: Callable[[], Any] | None = None,
    ) -> Tensor:
        """What a library's `function(model, *tensors)` gives for the one example of an attack that declared
        `one_at_a_time`, made in another process and within a limit (see `robench.search.libraries.process`).

        What it shows the model are candidates. The first that the judge verifies ends it: then none is active, and the
        result is empty.
        """
        if len(self.x) != 1:
            raise AttackError(
                f"expected one example for another process, got {len(self.x)}; declare one_at_a_time=True"
            )
        rows, backwards = self._record.active.rows, self._loaded.backwards
        library = LibraryModel(self._loaded, differentiable=self._access == "gradients")

        def model(points: Tensor) -> Tensor:
            logits: Tensor = library(points)
            self._count(points)
            within = self.threat.contains(points, repeated(self.x, points))
            self._record.observe(points, logits.detach(), within, self._step)
            self._record.verify()
            if not len(self._record):
                raise process.Enough
            return logits

        seed = int(self.draws.uniform("apart", ()) * 2**24)
        try:
            found = process.call(function, *tensors, model=model, seconds=seconds, ready=ready, seed=seed)
        finally:
            self._record.outcome.backwards[rows] += self._loaded.backwards - backwards
        return self.x if found is None else found

    def one_by_one(self, attack: Callable[["Search"], Any]) -> None:
        """Drives an attack on each example alone: in passes of one image on one thread, so that its outcome depends on
        no other example. Where it raises, that example has failed and the next one's turn comes."""
        last = []
        with torch_threads(1):
            for row in range(len(self.x)):
                self._watch(len(self.x) - int(self._record.active.pending.sum()), row / len(self.x))
                alone = self._alone(row)
                try:
                    alone.run(attack, first=self.draws.restart)
                except UserError:
                    raise
                except Exception as error:  # whatever an attack does wrong on one example must not harm the others
                    alone._record.end()
                    alone._record.outcome.failures[0] = f"{type(error).__name__}: {error}"
                self._record.adopt(row, alone._record.outcome)
                last.append(torch.cat([alone._record.active.last, alone._record.outcome.kept])[:1])
        self._record.active.last = torch.cat(last)
        self._record.verify()

    def _alone(self, row: int) -> "Search":
        one, judge, drop = torch.tensor([row], device=self.x.device), self._record.judge, self._record.drop
        x, y, draws = self.x[one], self.y[one], self.draws.take(one)
        alone = Search(self._loaded, judge, self.threat, x, y, draws, access=self._access, drop=drop)
        alone.batch_size, alone.resources = self.batch_size, self.resources
        return alone

    def _forward(self, flat: Tensor, within: Tensor) -> Tensor:
        parts = torch.split(flat, max(self.batch_size, len(self.x)))
        logits = torch.cat([self._classifier.logits(part) for part in parts])
        self._count(flat)
        self._record.observe(flat, logits, within, self._step)
        return logits

    def _within(self, points: Tensor) -> Tensor:
        """Whether each of points [B, ...] or [B, k, ...], in one row, lies within the threat. Of what `project` gave
        last only that it is finite needs a look."""
        if self._projected and points is self._projected[0] and points._version == self._projected[1]:
            return points.flatten(1).sum(1).isfinite()
        flat = in_one_row(points, self.x)
        return self.threat.contains(flat, repeated(self.x, flat))

    def _count(self, flat: Tensor, *, backwards: bool = False) -> None:
        each = len(flat) // max(len(self.x), 1) * self._classifier.draws
        self._record.count(each, backwards=backwards, queries=self._queries)

    def _require(self, access: Access) -> None:
        if not reveals(self._access, access):
            raise AttackError(f"the attack declared that it sees {self._access} and asked for {access}")
