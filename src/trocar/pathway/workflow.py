"""May a lesion go on to its next state, what stands in the way, and what is due?

A lesion goes forward one state at a time through the gates of the state it enters. A gate is a
result: open, closed, or not known, which never passes. Going back needs a reason and no gate.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from trocar.errors import InputError
from trocar.model.care import STATES, Care, Standing
from trocar.model.course import Device
from trocar.model.study import Record
from trocar.pathway.gates import GATES, Gate
from trocar.pathway.underway import VISIT_WORDS, Underway, underway

_FORWARD = ("referred", "selection", "meeting", "consent", "planning", "ready", "treated",
            "follow-up", "closed")  # fmt: skip
_TREATED = _FORWARD.index("treated")
# From each state to those that may follow: forward first, then back, then out of the way.
NEXT: Mapping[str, tuple[str, ...]] = {
    "referred": ("selection", "declined"),
    "selection": ("meeting", "referred", "declined"),
    "meeting": ("consent", "selection", "declined"),
    "consent": ("planning", "meeting", "declined"),
    "planning": ("ready", "consent", "declined"),
    "ready": ("treated", "planning", "declined"),
    "treated": ("follow-up", "ready", "closed"),
    "follow-up": ("closed", "treated"),
    "closed": ("follow-up", "selection"),
    "declined": ("selection",),
}
# What comes next when every gate is open.
_NEXT_WORDS: Mapping[str, str] = {
    "referred": "Begin the selection",
    "selection": "Put before the meeting",
    "meeting": "Ask for consent",
    "consent": "Begin the planning",
    "planning": "Make ready for the procedure",
    "ready": "Record that it was treated",
    "treated": "Begin the follow-up",
    "follow-up": "Close the case",
}


def forward(state: str) -> str | None:
    """The next state on the way, or None where the way has ended.

    >>> forward("ready"), forward("declined")
    ('treated', None)
    """
    return None if state in ("closed", "declined") else NEXT[state][0]


def goes_back(state: str, state_to: str) -> bool:
    """Whether a step undoes the one before it.

    >>> goes_back("ready", "planning"), goes_back("closed", "selection")
    (True, False)
    """
    return state in _FORWARD[1:] and state_to == _FORWARD[_FORWARD.index(state) - 1]


def needs_reason(state: str, state_to: str) -> bool:
    """Whether a step must say why even with every gate open: all but one step forward."""
    return state_to != forward(state)


def gates(
    state_to: str,
    record: Record,
    care: Care,
    *,
    today: str,
    devices: tuple[Device, ...] | None = None,
) -> tuple[Gate, ...]:
    """The gates of a state for one lesion, worst first; none for a step back or for declining.

    ``today`` is an ISO day. ``devices`` are those of the lesion's procedures; without them what
    rests on them is not known. Raises InputError for an unknown state, another day or lesion.
    """
    if state_to not in STATES:
        raise InputError(f"state is {state_to!r}; expected one of {', '.join(STATES)}")
    case = underway(record, care, today, devices)
    if goes_back(care.state, state_to):
        return ()
    found = [gate for rule in GATES.get(state_to, ()) for gate in rule(case)]
    return tuple(sorted(found, key=lambda g: (g.open is True, not g.hard, g.open is None)))


def may_override(role: str, gate: Gate) -> bool:
    """Whether a role may override a gate; whoever does must give a reason."""
    return gate.hard and role in gate.overridable_by


def blocked(gates: Iterable[Gate], overridden: Collection[str], role: str) -> tuple[Gate, ...]:
    """The hard gates that still stop a step which ``role`` takes, overriding those named."""
    return tuple(
        g
        for g in gates
        if g.hard and g.open is not True and not (g.gate in overridden and may_override(role, g))
    )


def standing(record: Record, care: Care, *, today: str) -> Standing:
    """Where a lesion stands on an ISO day, and what is due next.

    ``next_due`` is empty where nothing is due or where its day is not known; before the procedure
    ``due_what`` names the gate the next step waits for. ``open_gates`` counts the hard gates of
    the next step that do not let it pass. Raises InputError for another day or lesion.
    """
    case = underway(record, care, today, None)
    state_to = forward(care.state)
    shut = () if state_to is None else blocked(gates(state_to, record, care, today=today), (), "")
    next_due, due_what = _due(case, shut)
    plan = case.care.plan
    untreated = care.state in _FORWARD[:_TREATED]
    return Standing(
        state=care.state,
        since=care.steps[-1].at if care.steps else "",
        next_due=next_due,
        due_what=due_what,
        unsigned_plan=untreated and plan is not None and not plan.approved,
        missing_scores=sum(case.past(v) and not case.scored(v) for v in case.expected),
        open_gates=len(shut),
    )


def _due(case: Underway, shut: tuple[Gate, ...]) -> tuple[str, str]:
    """Day and words of what is due first."""
    state = case.care.state
    if forward(state) is None or case.died:
        return "", ""
    if state in ("treated", "follow-up"):
        for visit in case.expected:
            if not case.past(visit) and not case.answered(visit):
                return case.day_of(visit), VISIT_WORDS[visit.label]
        if state == "follow-up":
            return "", _NEXT_WORDS[state]
    if state in ("selection", "meeting") and case.coming is not None:
        return case.coming.date, "Multidisciplinary meeting"
    return "", shut[0].title if shut else _NEXT_WORDS[state]
