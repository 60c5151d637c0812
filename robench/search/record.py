"""The examples of a search with all that its runs have found on them, out of the attack's reach."""

from dataclasses import replace
from weakref import WeakSet

import torch
from torch import Tensor

from robench.losses import are_decided, margin
from robench.search.judge import Judge
from robench.search.outcome import Outcome
from robench.search.points import repeated
from robench.search.rng import Draws
from robench.search.working_set import State, WorkingSet, narrow
from robench.utils.errors import AttackError

CHANGED = (
    "the attack changed search.x or search.y, which are the examples as they are; "
    "write at.x = at.x + step in place of at.x += step, or begin at search.x.clone()"
)


class Record:
    """Runs an attack's candidates past the judge. With `drop`, examples leave the run as they are broken."""

    def __init__(self, x: Tensor, y: Tensor, draws: Draws, judge: Judge, *, drop: bool) -> None:
        self.x, self.y, self._draws = x.clone(), y.clone(), draws
        self.judge, self.drop = judge, drop
        self.outcome = Outcome.of_nothing(x)
        self._judged = torch.zeros_like(self.outcome.fooled)  # whose verdict is that of the candidate kept
        self.begin(0)

    def begin(self, restart: int) -> None:
        """Starts a run on the examples that are not broken."""
        active = (~(self.outcome.fooled & self.drop)).nonzero().squeeze(1)
        self.active = WorkingSet.of(active, self.x, self.y, replace(self._draws, restart=restart))
        self.states: WeakSet[State] = WeakSet()
        """of the attack, as long as it holds them"""

    def __len__(self) -> int:
        """The number of active examples."""
        return len(self.active.rows)

    @property
    def broken(self) -> Tensor:
        """Which active examples are broken [B]; none with `drop`."""
        return self.outcome.fooled[self.active.rows]

    @property
    def earlier(self) -> Tensor:
        """The largest margin [B] of the runs before this one; -inf in the first."""
        return self.outcome.margin[self.active.rows]

    def originals(self, index: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Images and labels of these active examples, as the search was given them."""
        rows = self.active.rows[index]
        return self.x[rows], self.y[rows]

    def check_originals(self) -> None:
        """Raises AttackError where the attack has changed the images or labels that it was shown."""
        x, y = self.originals()
        if not (torch.equal(self.active.x, x) and torch.equal(self.active.y, y)):
            raise AttackError(CHANGED)

    def keep(self, index: Tensor) -> None:
        """Goes on with these active examples [n] alone."""
        for state in (self.active, *self.states):
            narrow(state, index)

    def observe(self, points: Tensor, logits: Tensor, within: Tensor, step: int) -> None:
        """Remembers, among points [B * k, ...] with these logits, the valid one of largest margin of each example as
        its candidate, made after `step` steps; one that is pending is not replaced."""
        active, points = self.active, points.detach()
        y, valid = repeated(active.y, points), within & are_decided(logits)
        margins = margin(logits, y).float().where(valid, -torch.inf)
        wrong = valid & (logits.argmax(1) != y)
        if len(points) > len(self):
            best = margins.view(len(self), -1).argmax(1)
            rows = torch.arange(len(self), device=points.device) * (len(points) // len(self)) + best
            points, margins, wrong = points[rows], margins[rows], wrong[rows]
        better = (margins > active.margin) & ~active.pending & ~self.broken
        active.improve(better, points, margins, step)
        active.pending |= better & wrong

    def offer(self, points: Tensor, within: Tensor) -> None:
        """Notes that points [B * k, ...] were offered, and which are `within` the threat."""
        self.outcome.invalid[self.active.rows] |= ~within.view(len(self), -1).all(1)
        self.active.last = points.view(len(self), -1, *points.shape[1:])[:, -1].clone()  # it may go on in place

    def verify(self) -> None:
        """Judges pending candidates. Broken examples leave; the others go on from the margin that the judge found."""
        active = self.active
        pending = active.pending.nonzero().squeeze(1)
        if not len(pending):
            return
        verdicts = self.judge(active.candidate[pending], *self.originals(pending))
        active.verdicts.put(pending, verdicts)
        active.pending[pending] = active.unseen[pending] = False
        active.margin[pending] = verdicts.margin.nan_to_num(-torch.inf)
        broken = pending[verdicts.fooled]
        self._write(broken)
        self.outcome.fooled[active.rows[broken]] = True
        if self.drop and len(broken):
            robust = torch.ones_like(active.pending)
            robust[broken] = False
            self.keep(robust.nonzero().squeeze(1))

    def stop(self, hopeless: Tensor) -> None:
        """Ends this run on these active examples, of all [B], after a last look of the judge."""
        at = State(hopeless=hopeless & self.drop)
        self.states.add(at)
        self.active.pending |= at.hopeless & self.active.unseen
        self.verify()
        self._write_risen(at.hopeless)
        self.keep((~at.hopeless).nonzero().squeeze(1))

    def end(self) -> None:
        """Ends the run: a candidate may fool the judge though not the search, which rounds or takes fewer draws."""
        outcome, active = self.outcome, self.active
        active.pending |= active.unseen & ~self.broken
        self.verify()
        self._write_risen(~self.broken)
        if not self.drop:
            outcome.last = active.last
            new = (active.last != outcome.kept).flatten(1).any(1).nonzero().squeeze(1)
            fooled = outcome.verdicts.fooled.clone()
            if len(new):
                fooled[new] = self.judge(active.last[new], *self.originals(new)).fooled
            outcome.last_fooled |= fooled

    def judge_untried(self) -> None:
        """Judges the examples on which nothing was tried, as they are."""
        rows = (~self._judged).nonzero().squeeze(1)
        if len(rows):
            self.outcome.verdicts.put(rows, self.judge(self.outcome.kept[rows], self.x[rows], self.y[rows]))

    def ended_here(self, leaving: Tensor, draws: int) -> Outcome:
        """The outcome had the run ended with the forward pass of this step, which takes `draws` passes; before it the
        candidates of `leaving` [B] would have been judged."""
        outcome, active = self.outcome.copy(), self.active
        outcome.backwards[active.rows] -= draws
        outcome.verdicts.put(active.rows, active.verdicts)
        unseen = (active.unseen | (active.margin == -torch.inf)).nonzero().squeeze(1)
        margins = active.margin.clone()
        if len(unseen):
            found = self.judge(active.candidate[unseen], *self.originals(unseen))
            outcome.verdicts.put(active.rows[unseen], found)
            outcome.fooled[active.rows[unseen]] |= found.fooled
            margins[unseen] = found.margin.nan_to_num(-torch.inf)
        outcome.forwards[active.rows[leaving & outcome.fooled[active.rows]]] -= draws
        outcome.kept[active.rows], outcome.margin[active.rows] = active.candidate, margins
        outcome.first_step[active.rows] = active.step
        return outcome

    def count(self, points: int, *, backwards: bool = False, queries: bool = False) -> None:
        """Adds passes at so many points of each active example."""
        outcome, rows = self.outcome, self.active.rows
        outcome.forwards[rows] += points
        outcome.backwards[rows] += points * backwards
        outcome.queries[rows] += points * queries

    def share(self, forwards: int, backwards: int, *, queries: bool) -> None:
        """Adds passes that were made for all active examples together, rounded up for each."""
        each = max(len(self), 1)
        self.count(-(-forwards // each), queries=queries)
        self.outcome.backwards[self.active.rows] += -(-backwards // each)

    def charge(self, rows: Tensor, spent: Outcome) -> None:
        """Adds the passes of another search, and where it failed, to these rows of the outcome."""
        self.outcome.forwards[rows] += spent.forwards
        self.outcome.backwards[rows] += spent.backwards
        self.outcome.queries[rows] += spent.queries
        self.outcome.failures |= {int(rows[row]): why for row, why in spent.failures.items()}

    def adopt(self, row: int, found: Outcome) -> None:
        """Takes over what a search of the active example `row` alone has found."""
        active, place = self.active, self.active.rows[row : row + 1]
        self.charge(place, found)
        self.outcome.invalid[place] |= found.invalid
        if found.margin > active.margin[row] and not self.outcome.fooled[place]:
            active.margin[row], active.candidate[row] = found.margin[0], found.kept[0]
            active.step[row], active.pending[row] = found.first_step[0], found.fooled[0]
            active.unseen[row] = True

    def _write_risen(self, among: Tensor) -> None:
        """Records the candidates of those active examples whose margin this run has raised above the runs before."""
        self._write((among & (self.active.margin > self.earlier)).nonzero().squeeze(1))

    def _write(self, index: Tensor) -> None:
        """Writes the candidates of these active examples into the outcome."""
        active, rows = self.active, self.active.rows[index]
        self.outcome.kept[rows], self.outcome.margin[rows] = active.candidate[index], active.margin[index]
        self.outcome.first_step[rows] = active.step[index]
        self.outcome.verdicts.put(rows, active.verdicts.take(index))
        self._judged[rows] = True
