"""The working set an attack drives: the examples still standing, and every candidate it shows the model.

An attack never judges. It moves candidates; each forward pass that it needs anyway also tells whether the candidate
fooled the model. The judge confirms that, and who fell leaves the batch, with all the state the attack keeps.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor, nn

from robench.access import Access, reveals
from robench.losses import Loss, are_decided, check_self_contained, evaluated, margin
from robench.search.classifier import Classifier, Layer, Output
from robench.search.judge import Judge, Verdicts
from robench.search.library import process
from robench.search.library.model import LibraryModel
from robench.search.outcome import Outcome
from robench.search.resources import Resources
from robench.search.rng import Draws
from robench.threat import ThreatModel, per_example
from robench.utils.containment import contained
from robench.utils.errors import AttackError, UserError
from robench.utils.global_rng import reproducible, undisturbed
from robench.utils.sizes import Size, parse_size


class State:
    """Tensors [B, ...] of an attack, one row for each example standing, kept aligned as examples leave."""

    def __init__(self, **tensors: Tensor) -> None:
        self.__dict__.update(tensors)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Tensor: ...
        def __setattr__(self, name: str, value: Tensor) -> None: ...

    def _keep(self, index: Tensor) -> None:
        self.__dict__.update({name: tensor[index] for name, tensor in self.__dict__.items()})


class Search:
    """One attack on a batch of examples, restarts included.

    Points are [B, ...], one for each example standing, or [B, k, ...], k for each; what is computed at them has the
    same leading dimensions. `batch_size` is the number of points that makes a good batch. Passes are made by
    `classifier`; a library's attack is lent `loaded`, the model as it was loaded, where that is another.

    Attacks see `x` [B, ...], the originals of the examples standing, `y` [B], their labels, and `draws`, their random
    streams. With `drop=False` nobody leaves: every run goes to its last iterate (the papers' reading `final`).
    `watch` is told the number standing at each step.

    `beginnings` are numbers of steps: after a run, `begun` holds what a run of so many would have found, where its last
    iterate is the next point that this one shows the model.
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
        watch: Callable[[int], None] = lambda standing: None,
        beginnings: Collection[int] = (),
    ) -> None:
        self.begun: dict[int, Outcome] = {}
        self._beginnings = beginnings
        self.threat, self.batch_size, self._watcher = threat, batch_size, watch
        self.resources = resources or Resources()
        self._classifier, self._judge, self._access, self._drop = classifier, judge, access, drop
        self._loaded, self._patience = loaded or classifier, classifier.tuning.patience
        self._everyone = (x.clone(), y.clone(), draws)  # of its own: the attack sees copies
        self._outcome = Outcome.of_nothing(x)
        self._judged = torch.zeros_like(self._outcome.fooled)  # whose verdict is that of the candidate kept
        self._begin(0)

    def _begin(self, restart: int) -> None:
        """The working set of a run: who has not fallen, with the best candidates of the runs before."""
        x, y, draws = self._everyone
        fallen = self._outcome.fooled & self._drop
        self._standing = rows = (~fallen).nonzero().squeeze(1)  # rows of the outcome
        self.x, self.y = x[rows], y[rows]
        self.draws = replace(draws.keep(rows.cpu().numpy()), restart=restart)
        self._states: WeakSet[State] = WeakSet()  # those that the attack still holds
        self._step = 0
        self._suspect = torch.zeros_like(rows, dtype=torch.bool)  # fooled the search, not yet judged
        self._fresh = torch.zeros_like(self._suspect)  # a candidate that the judge has not seen
        self._verdicts = Verdicts.unknown(len(rows), rows.device)  # on the candidates, where they are not fresh
        self._best = torch.full_like(self._outcome.margin[rows], -torch.inf)  # largest margin of this run
        self._candidate = self.x.clone()  # the candidate that had it
        self._candidate_step = torch.zeros_like(self._outcome.first_step[rows])
        self._last = self.x.clone()
        self._limits: tuple[Tensor, Tensor] | None = None  # of the pixels, for l-infinity
        self._projected: tuple[Tensor, int] | None = None  # what `project` gave last, as it was then

    # What every attack may do

    @property
    def eps(self) -> float:
        return self.threat.eps

    @property
    def shape(self) -> Sequence[int]:
        """The shape of one image."""
        return self.x.shape[1:]

    @cached_property
    def classes(self) -> int:
        """The number of classes; the first time it costs a pass of one image, which is not counted."""
        return self._classifier.logits(self._everyone[0][:1]).shape[1]

    @property
    def best(self) -> tuple[Tensor, Tensor]:
        """Of each example the candidate [B, ...] of largest margin in this run, and that margin [B]; x and -inf where
        there was none."""
        return self._candidate.where(per_example(self._best > -torch.inf, self.x), self.x), self._best

    @property
    def earlier(self) -> Tensor:
        """The largest margin [B] of the runs before this one; -inf in the first."""
        return self._outcome.margin[self._standing]

    def give_up(self, hopeless: Tensor) -> None:
        """Spends no more of this run on these examples, of all [B]. They leave at once, as the fallen do."""
        at = self.state(hopeless=hopeless & self._drop)
        self._suspect |= at.hopeless & self._fresh
        self._settle()
        self._record_risen(at.hopeless)
        self._keep((~at.hopeless).nonzero().squeeze(1))

    def size(self, written: Size) -> float:
        """The value of a length such as "eps/4" or 2/255."""
        return parse_size(written, self.eps)

    def state(self, **tensors: Tensor) -> State:
        """Registers tensors [B, ...] that must stay aligned with the examples standing."""
        state = State(**tensors)
        self._states.add(state)
        return state

    def steps(self, count: int) -> Iterator[int]:
        """Counts steps; between two of them, or after a few, the fallen leave. Ends early when nobody stands."""
        for step in range(count):
            if step % self._patience == 0:
                self._settle()
            if not len(self._standing):
                return
            self._watcher(len(self._standing))
            leaving = self._suspect.clone()
            yield step
            if step in self._beginnings:
                self.begun[step] = self._ended_here(leaving)
            self._step += 1
        self._settle()

    def groups(self, count: int) -> Iterator[range]:
        """Counts tries of each example, as many at a time as fill a batch; between two groups the fallen leave."""
        done = 0
        while done < count:
            self._settle()
            if not len(self._standing):
                return
            self._watcher(len(self._standing))
            size = min(max(self.batch_size // len(self._standing), 1), count - done)
            yield range(done, done + size)
            done += size
        self._settle()

    def random_start(self, step: int = 0) -> Tensor:
        """A uniform point of the ball around each x, projected into the box; another for another `step`."""
        if self.threat.norm == "linf":
            offset = self.threat.ball_point(self.draws.uniform("start", self.shape, step))
        else:
            radius, direction = self.draws.uniform("radius", (), step), self.draws.normal("start", self.shape, step)
            offset = self.threat.ball_point(radius, direction)
        return self.project(self.x + offset)

    def project(self, points: Tensor) -> Tensor:
        flat = self._flat(points)
        if points.shape != self.x.shape or self.threat.norm != "linf":
            return self.threat.project(flat, self._repeated(self.x, flat)).view_as(points)
        if self._limits is None:
            self._limits = self.threat.limits(self.x)
        projected = points.clamp(*self._limits)
        if not projected.is_inference():
            self._projected = projected, projected._version
        return projected

    def steepest(self, gradient: Tensor) -> Tensor:
        """The unit step that raises the loss most: the sign for l-infinity, the direction for l2."""
        return self.threat.steepest(self._flat(gradient)).view_as(gradient)

    def offer(self, x_adv: Tensor) -> None:
        """Shows candidates to the model: one forward pass each. Those outside the threat are marked invalid.

        What was offered last is the last iterate; of several the last one.
        """
        flat = self._flat(x_adv)
        if not len(flat):
            return
        within = self.threat.contains(flat, self._repeated(self.x, flat))
        self._outcome.invalid[self._standing] |= ~within.view(len(self.x), -1).all(1)
        self._last = flat.view(len(self.x), -1, *self.shape)[:, -1].clone()  # the attack may go on in place
        self._forward(flat, within)

    def query(self, points: Tensor) -> Tensor:
        """What a black-box attack sees at points, which may lie outside the threat: logits [..., C], or, for one that
        declares `labels`, predictions [...]. Those within the threat are candidates too."""
        logits = self._forward(self._flat(points), self._within(points))
        leading = self._leading(points)
        if self._access == "labels":
            return logits.argmax(1).view(leading)
        return logits.view(*leading, logits.shape[1])

    # What needs access

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
        flat = self._flat(points)
        leading = self._leading(points)
        if not len(flat):
            return points.new_zeros(leading), points
        y, aligned = self._repeated(self.y, flat), self._aligned(points, beside)
        logits, value, gradient = self._classifier.differentiate(flat, y, loss, *aligned, of=of)
        self._count(flat, backwards=True)
        self._watch(flat, logits, self._within(points))
        return value.view(leading), gradient.nan_to_num(0.0, 0.0, 0.0).contiguous().view_as(points)

    def value(self, points: Tensor, loss: Loss, *beside: Tensor) -> Tensor:
        """The loss of the logits at each point, [B] or [B, k], for attacks that see scores: a query each. The loss is
        as `gradient` has it."""
        self._require("scores")
        check_self_contained(loss)
        leading = self._leading(points)
        logits = self.query(points).flatten(0, len(leading) - 1)
        return evaluated(loss, logits, self._repeated(self.y, logits), *self._aligned(points, beside)).view(leading)

    def features(self, images: Tensor, layer: Layer) -> Tensor:
        """Features of other images [B, ...] or [B, k, ...], as [n, ...] in one row; a forward pass each."""
        self._require("gradients")
        flat = self._flat(images)
        self._count(flat)
        return self._classifier.features(flat, layer)[0]

    @property
    def stochastic(self) -> bool:
        return self._judge.votes > 1

    @contextmanager
    def lend(self, *, expected: bool = True) -> Iterator[nn.Module]:
        """The model as a library's attack may call it, on any batch of points, with gradients only for those who
        declared them; of a stochastic one the mean over draws, or one draw where the library takes its own mean. Its
        passes are shared out equally among the examples standing; what it does to global random states, tracing and
        warnings is undone."""
        before = (self._loaded.forwards, self._loaded.backwards)
        self._watcher(len(self.x))
        with undisturbed(self.x.device):
            yield LibraryModel(self._loaded, differentiable=self._access == "gradients", expected=expected)
        each = max(len(self.x), 1)
        forwards = -(-(self._loaded.forwards - before[0]) // each)
        self._outcome.forwards[self._standing] += forwards
        self._outcome.backwards[self._standing] += -(-(self._loaded.backwards - before[1]) // each)
        if self._access != "gradients":
            self._outcome.queries[self._standing] += forwards
        self._watcher(len(self.x))

    @contextmanager
    def learn(self) -> Iterator[nn.Module]:
        """The model, frozen, for an attack that trains a network of its own against it. Global random numbers start at
        the attack's seed and are put back afterwards. Its passes are the run's, of no example."""
        self._require("gradients")
        self._watcher(len(self.x))
        with undisturbed(self.x.device), reproducible(self.draws.seed), torch.enable_grad():
            yield LibraryModel(self._loaded, differentiable=True)

    def craft(self, source: Classifier, attack: Callable[["Search"], Any]) -> Tensor:
        """Where a white-box attack on another model ends, for each example [B, ...]; nobody is dropped there, and
        what fools that model means nothing here. Its passes count."""
        elsewhere = Search(
            source,
            Judge(source, self.threat),
            self.threat,
            self.x,
            self.y,
            self.draws,
            drop=False,
            batch_size=self.batch_size,
            resources=self.resources.elsewhere(source),
            watch=self._watcher,
        )
        outcome = elsewhere.run(attack, first=self.draws.restart)
        self._charge(self._standing, outcome)
        return outcome.last

    def apart(
        self,
        function: Callable[..., Tensor],
        *tensors: Tensor,
        seconds: float,
        ready: Callable[[], Any] | None = None,
    ) -> Tensor:
        """What a library's `function(model, *tensors)` gives for the one example of an attack that declared `alone`,
        made in another process and within a limit (see `robench.search.library.process`).

        What it shows the model are candidates. The first that the judge confirms ends it: then nobody stands, and the
        result is empty.
        """
        if len(self.x) != 1:
            raise AttackError(f"one example at a time can be sent apart, not {len(self.x)}; declare alone=True")
        rows, backwards = self._standing, self._loaded.backwards
        library = LibraryModel(self._loaded, differentiable=self._access == "gradients")

        def model(points: Tensor) -> Tensor:
            logits: Tensor = library(points)
            self._count(points)
            self._watch(points, logits.detach(), self.threat.contains(points, self._repeated(self.x, points)))
            self._settle()
            if not len(self._standing):
                raise process.Enough
            return logits

        seed = int(self.draws.uniform("apart", ()) * 2**24)
        try:
            found = process.call(function, *tensors, model=model, seconds=seconds, ready=ready, seed=seed)
        finally:
            self._outcome.backwards[rows] += self._loaded.backwards - backwards
        return self.x if found is None else found

    def separately(self, attack: Callable[["Search"], Any]) -> None:
        """Drives an attack on each example alone: in passes of one image on one thread, so that its outcome does not
        depend on companions. Where it raises, that example has failed and the next one's turn comes."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        last = []
        try:
            for row in range(len(self.x)):
                self._watcher(len(self.x) - int(self._suspect.sum()))
                alone = Search(
                    self._loaded,
                    self._judge,
                    self.threat,
                    self.x[row : row + 1],
                    self.y[row : row + 1],
                    self.draws.keep(np.array([row])),
                    loaded=self._loaded,
                    access=self._access,
                    drop=self._drop,
                    batch_size=self.batch_size,
                    resources=self.resources,
                )
                try:
                    alone.run(attack, first=self.draws.restart)
                except UserError:
                    raise
                except Exception as error:  # whatever an attack does wrong on one example must not harm the others
                    alone._settle()
                    alone._end()
                    alone._outcome.failures[0] = f"{type(error).__name__}: {error}"
                self._adopt(row, alone._outcome)
                last.append(torch.cat([alone._last, alone._outcome.kept])[:1])
        finally:
            torch.set_num_threads(threads)
        self._last = torch.cat(last)
        self._settle()

    # What the engine does

    def run(self, attack: Callable[["Search"], Any], restarts: int = 1, first: int = 0) -> Outcome:
        """Drives the attack to its end, each restart on the survivors of those before, and gives what it found."""
        with torch.no_grad():
            for restart in range(first, first + restarts):
                self._begin(restart)
                if not len(self._standing):
                    break
                with contained("the attack"):
                    attack(self)
                self._check_originals()
                self._end()
            x, y, _ = self._everyone
            unseen = (~self._judged).nonzero().squeeze(1)  # on whom nothing was tried
            if len(unseen):
                self._outcome.verdicts.put(unseen, self._judge(self._outcome.kept[unseen], x[unseen], y[unseen]))
            for steps in self._beginnings:  # which it did not reach, for all had fallen
                self.begun.setdefault(steps, self._outcome)
        return self._outcome

    def _originals(self, index: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Images and labels of these examples of the working set, which no attack can reach."""
        x, y, _ = self._everyone
        rows = self._standing[index]
        return x[rows], y[rows]

    def _check_originals(self) -> None:
        """Raises AttackError where the attack has changed the images or labels that it was shown."""
        x, y = self._originals()
        if not (torch.equal(self.x, x) and torch.equal(self.y, y)):
            raise AttackError(
                "the attack changed search.x or search.y, which are the examples as they are; "
                "write at.x = at.x + step in place of at.x += step, or begin at search.x.clone()"
            )

    def _end(self) -> None:
        """The last look: a candidate may fool the judge though not the search, which rounds or takes fewer draws."""
        outcome = self._outcome
        self._suspect |= self._fresh & ~outcome.fooled[self._standing]
        self._settle()
        self._record_risen(~outcome.fooled[self._standing])
        if not self._drop:
            outcome.last = self._last
            new = (self._last != outcome.kept).flatten(1).any(1).nonzero().squeeze(1)
            fooled = outcome.verdicts.fooled.clone()
            if len(new):
                fooled[new] = self._judge(self._last[new], *self._originals(new)).fooled
            outcome.last_fooled |= fooled

    def _ended_here(self, leaving: Tensor) -> Outcome:
        """What there would be had the run ended with the forward pass of this step, before which the suspects `leaving`
        would have been looked at."""
        outcome = self._outcome.copy()
        outcome.backwards[self._standing] -= self._classifier.draws
        outcome.verdicts.put(self._standing, self._verdicts)
        unseen = (self._fresh | (self._best == -torch.inf)).nonzero().squeeze(1)
        margins = self._best.clone()
        if len(unseen):
            found = self._judge(self._candidate[unseen], *self._originals(unseen))
            outcome.verdicts.put(self._standing[unseen], found)
            outcome.fooled[self._standing[unseen]] |= found.fooled
            margins[unseen] = found.margin.nan_to_num(-torch.inf)
        gone = self._standing[leaving & outcome.fooled[self._standing]]
        outcome.forwards[gone] -= self._classifier.draws
        outcome.kept[self._standing], outcome.margin[self._standing] = self._candidate, margins
        outcome.first_step[self._standing] = self._candidate_step
        return outcome

    def _adopt(self, row: int, found: Outcome) -> None:
        """Takes over what a search of the example at `row` alone has found."""
        place = self._standing[row : row + 1]
        self._charge(place, found)
        self._outcome.invalid[place] |= found.invalid
        if found.margin > self._best[row] and not self._outcome.fooled[place]:
            self._best[row], self._candidate[row] = found.margin[0], found.kept[0]
            self._candidate_step[row], self._suspect[row] = found.first_step[0], found.fooled[0]
            self._fresh[row] = True

    def _charge(self, rows: Tensor, spent: Outcome) -> None:
        """Adds the passes of another search, and where it failed, to these rows of the outcome."""
        self._outcome.forwards[rows] += spent.forwards
        self._outcome.backwards[rows] += spent.backwards
        self._outcome.queries[rows] += spent.queries
        self._outcome.failures |= {int(rows[row]): why for row, why in spent.failures.items()}

    def _forward(self, flat: Tensor, within: Tensor) -> Tensor:
        logits = torch.cat(
            [self._classifier.logits(part) for part in torch.split(flat, max(self.batch_size, len(self.x)))]
        )
        self._count(flat)
        self._watch(flat, logits, within)
        return logits

    def _count(self, flat: Tensor, *, backwards: bool = False) -> None:
        each = len(flat) // max(len(self.x), 1) * self._classifier.draws
        self._outcome.forwards[self._standing] += each
        if backwards:
            self._outcome.backwards[self._standing] += each
        if self._access != "gradients":
            self._outcome.queries[self._standing] += each

    def _within(self, points: Tensor) -> Tensor:
        """Whether each of points [B, ...] or [B, k, ...], in one row, lies within the threat. Of what `project` gave
        last only that it is finite needs a look."""
        if self._projected and points is self._projected[0] and points._version == self._projected[1]:
            return points.flatten(1).sum(1).isfinite()
        flat = self._flat(points)
        return self.threat.contains(flat, self._repeated(self.x, flat))

    def _watch(self, flat: Tensor, logits: Tensor, within: Tensor) -> None:
        """Remembers the best valid candidate of each example; the first one that fools the search is not replaced."""
        flat = flat.detach()
        valid = within & are_decided(logits)
        margins = margin(logits, self._repeated(self.y, flat)).float().where(valid, -torch.inf)
        wrong = valid & (logits.argmax(1) != self._repeated(self.y, flat))
        if len(flat) > len(self.x):  # of several points of an example, its best
            best = margins.view(len(self.x), -1).argmax(1)
            rows = torch.arange(len(self.x), device=flat.device) * (len(flat) // len(self.x)) + best
            flat, margins, wrong = flat[rows], margins[rows], wrong[rows]
        better = (margins > self._best) & ~self._suspect & ~self._outcome.fooled[self._standing]
        self._fresh |= better
        self._best = margins.where(better, self._best)
        self._candidate = flat.where(per_example(better, flat), self._candidate)
        self._candidate_step = self._candidate_step.where(~better, torch.full_like(self._candidate_step, self._step))
        self._suspect |= better & wrong

    def _settle(self) -> None:
        """Has the suspects judged. The confirmed leave; the others go on from a clean slate."""
        suspects = self._suspect.nonzero().squeeze(1)
        if not len(suspects):
            return
        verdicts = self._judge(self._candidate[suspects], *self._originals(suspects))
        self._verdicts.put(suspects, verdicts)
        self._suspect[suspects] = self._fresh[suspects] = False
        self._best[suspects] = verdicts.margin.nan_to_num(-torch.inf)
        fallen = suspects[verdicts.fooled]
        self._record(fallen)
        self._outcome.fooled[self._standing[fallen]] = True
        if self._drop and len(fallen):
            standing = torch.ones_like(self._suspect)
            standing[fallen] = False
            self._keep(standing.nonzero().squeeze(1))

    def _record_risen(self, among: Tensor) -> None:
        """Writes the best candidates of those among whom this run has brought further than the runs before."""
        self._record((among & (self._best > self.earlier)).nonzero().squeeze(1))

    def _record(self, index: Tensor) -> None:
        """Writes the best candidates of these examples of the working set."""
        rows = self._standing[index]
        self._outcome.kept[rows], self._outcome.margin[rows] = self._candidate[index], self._best[index]
        self._outcome.first_step[rows] = self._candidate_step[index]
        self._outcome.verdicts.put(rows, self._verdicts.take(index))
        self._judged[rows] = True

    def _keep(self, index: Tensor) -> None:
        self.x, self.y = self.x[index], self.y[index]
        self.draws = self.draws.keep(index.cpu().numpy())
        self._standing, self._suspect = self._standing[index], self._suspect[index]
        self._fresh, self._verdicts = self._fresh[index], self._verdicts.take(index)
        self._best, self._candidate = self._best[index], self._candidate[index]
        self._candidate_step, self._last = self._candidate_step[index], self._last[index]
        self._limits = None
        for state in self._states:
            state._keep(index)

    def _flat(self, points: Tensor) -> Tensor:
        """[B, ...] or [B, k, ...] as [B * k, ...]."""
        leading = self._leading(points)
        if points.shape[len(leading) :] != self.shape or len(leading) not in (1, 2) or leading[0] != len(self.x):
            raise AttackError(f"the attack offered images of shape {tuple(points.shape)}, not {tuple(self.x.shape)}")
        return points.reshape(-1, *self.shape)

    def _leading(self, points: Tensor) -> torch.Size:
        """[B] or [B, k], of points [B, ...] or [B, k, ...]."""
        return points.shape[: points.dim() - len(self.shape)]

    def _aligned(self, points: Tensor, beside: Sequence[Tensor]) -> list[Tensor]:
        """What is given beside a loss, with a row for each of the points in one row."""
        leading, rows = self._leading(points), []
        for values in beside:
            if not isinstance(values, Tensor) or values.dim() == 0 or len(values) != leading[0]:
                given = f"shape {list(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
                raise AttackError(
                    f"expected a tensor beside the loss with a row for each of {leading[0]} examples, got {given}"
                )
            if len(leading) == 1:
                rows.append(values)
                continue
            values = values[:, None] if values.dim() == 1 else values
            if values.shape[1] not in (1, leading[1]):
                raise AttackError(
                    f"expected a tensor beside the loss of shape {list(leading)} or [{leading[0]}, 1] and more, as the "
                    f"points have, got {list(values.shape)}"
                )
            rows.append(values.expand(*leading, *values.shape[2:]).flatten(0, 1))
        return rows

    def _repeated(self, values: Tensor, flat: Tensor) -> Tensor:
        """[B, ...] as [B * k, ...], aligned with `flat`."""
        return values if len(flat) == len(values) else values.repeat_interleave(len(flat) // len(values), 0)

    def _require(self, access: Access) -> None:
        if not reveals(self._access, access):
            raise AttackError(f"the attack declared that it sees {self._access} and asked for {access}")
