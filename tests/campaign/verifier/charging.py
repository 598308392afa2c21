"""Sessions as the rules have them: what each was charged, record by record and at its deadlines.

With an id a session is (tenant, type, id): from its earliest start to the earliest end not before
it. Without one, the boundaries of (tenant, type, subject) pair up in order of time: each end closes
the oldest start that is open. Either times out for a meter when the log has gone on by the meter's
timeout since its latest record, and is billed to its last sign of life, or that and the timeout.
Whatever changes a charge has a cause with a log time, and what it changes is late by that.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.campaign.verifier.rules import Rule, Rules
    from tests.campaign.verifier.usage import Usage


class Owner(NamedTuple):
    """Whose boundaries: ``id`` is the session's, or the subject's where sessions have none."""

    partition: int
    tenant: str
    type: str
    id: str
    named: bool


class Opening(NamedTuple):
    """A start."""

    time: int
    subject: str
    attributes: tuple[tuple[str, str], ...]


class Span(NamedTuple):
    """One session: its start, its end or None, and its last sign of life."""

    opening: Opening
    end: int | None
    sign: int


Shares = Counter[tuple["Rule", tuple[str, ...], int, str]]
"""By meter, group, window and unit (a session or a microsecond), how many."""


@dataclass
class Facts:
    """All that was told about one owner."""

    starts: list[Opening] = field(default_factory=list[Opening])
    ends: list[int] = field(default_factory=list[int])
    beat: int = 0
    sign: int = 0
    last_append: int = 0

    def spans(self, owner: Owner, longest: int) -> Iterator[Span]:
        """The sessions that these facts are."""
        if owner.named:
            if self.starts:
                first = self.starts[0]
                fitting = (end for end in self.ends if first.time <= end <= first.time + longest)
                yield Span(first, next(fitting, None), self.sign)
            return
        open_: list[Opening] = []
        closed: dict[Opening, int] = {}
        told = [(start.time, 0, start) for start in self.starts]
        ends = [(end, 1, None) for end in self.ends]
        for time, _, start in sorted([*told, *ends], key=lambda each: each[:2]):
            if start is not None:
                open_.append(start)
                continue
            reached = next((each for each in open_ if time <= each.time + longest), None)
            if reached is not None:
                closed[reached] = time
                open_.remove(reached)
        for start in self.starts:
            yield Span(start, closed.get(start), max(start.time, self.beat))

    def shares(self, owner: Owner, rules: list[Rule], log_time: int) -> Shares:
        """What they are charged by that log time."""
        found: Shares = Counter()
        longest = min(rule.longest for rule in rules)
        for span in self.spans(owner, longest):
            begin = span.opening.time
            for rule in rules:
                until = span.end
                timeout = rule.timeout
                if until is None and timeout and log_time >= self.last_append + timeout:
                    until = span.sign + (timeout if rule.bills_timeout else 0)
                    until = min(until, begin + longest)
                group = rule.group(dict(span.opening.attributes))
                found[rule, group, rule.start_of(begin), "session"] += 1
                at = begin
                while until is not None and at < until:
                    window = rule.start_of(at)
                    stop = min(until, window + rule.window)
                    found[rule, group, window, "microsecond"] += stop - at
                    at = stop
        return found


class Sessions:
    """All sessions so far, charged into `Usage`."""

    def __init__(self, rules: Rules, usage: Usage) -> None:
        self._rules: Final = rules
        self._usage: Final = usage
        self.facts: Final[dict[Owner, Facts]] = {}

    def take(self, partition: int, event: dict[str, Any], log_time: int) -> None:
        """One more boundary or sign of life, in log order."""
        named = event["session"] is not None
        id_ = event["session"] if named else event["subject"] or ""
        owner = Owner(partition, event["tenant"], event["type"], id_, named)
        facts = self.facts.setdefault(owner, Facts())
        rules = self._rules.sessions(owner.type)
        before = self._pass_deadlines(owner, facts, log_time)
        facts.last_append = log_time
        facts.sign = max(facts.sign, event["time"])
        match event["kind"]:
            case "SESSION_START":
                attributes = tuple(sorted(event["attributes"].items()))
                subject = (event["subject"] or "") if named else ""
                opening = Opening(event["time"], subject, attributes)
                facts.starts = sorted({*facts.starts, opening})
            case "SESSION_END":
                facts.ends = sorted({*facts.ends, event["time"]})
            case _:
                facts.beat = max(facts.beat, event["time"])
        self._charge(owner, before, facts.shares(owner, rules, log_time), log_time)

    def end(self, partition: int, log_time: int) -> None:
        """The log of a partition ends at that log time."""
        for owner, facts in self.facts.items():
            if owner.partition == partition:
                self._pass_deadlines(owner, facts, log_time)

    def _pass_deadlines(self, owner: Owner, facts: Facts, log_time: int) -> Shares:
        """Charge what timed out up to a log time, each at its deadline; what is charged then."""
        rules = self._rules.sessions(owner.type)
        before = facts.shares(owner, rules, facts.last_append)
        due = {facts.last_append + rule.timeout for rule in rules if rule.timeout is not None}
        for deadline in sorted(at for at in due if at <= log_time) if facts.last_append else ():
            after = facts.shares(owner, rules, deadline)
            self._charge(owner, before, after, deadline)
            before = after
        return before

    def _charge(self, owner: Owner, before: Shares, after: Shares, cause: int) -> None:
        changed = Counter(after)
        changed.subtract(before)
        for (rule, group, window, unit), amount in changed.items():
            if amount:
                share = (amount, 0) if unit == "session" else (0, amount)
                self._usage.charge(rule, owner.tenant, group, owner.partition, window, cause, share)
