"""Who may do what: seven roles, each a set of rights. Everything that is not given is refused.

A page or an address of the programming interface names the one right it needs; a test holds every
address against every role.
"""

from __future__ import annotations

from collections.abc import Mapping

ROLES = (
    "referrer",
    "coordinator",
    "radiologist",
    "specialist",
    "audit lead",
    "researcher",
    "administrator",
)

# Rights. "own" ones reach only the lesions the account itself referred.
SEE_OWN = "see own cases"
SEE = "see cases"
REFER = "refer"
MEET = "write the meeting"
VOTE = "vote and sign"
CONSENT = "record consent"
PLAN = "write plans"
APPROVE = "approve plans"
TREAT = "record procedures"
FOLLOW = "record follow-up"
HARM = "record complications"
MOVE = "move a case"
OVERRIDE = "override a gate"
CORRECT = "correct and remove rows"
HISTORY = "see history"
AUDIT = "see the audit"
EXPORT = "export the whole study"
SHARED = "see pseudonymised tables"
IMPORT = "import a study"
PEOPLE = "manage accounts"
LOG = "see and verify the log"
TOKENS = "make tokens"

_CLINIC = frozenset({SEE, FOLLOW, HARM, HISTORY, MOVE, TOKENS})
RIGHTS: Mapping[str, frozenset[str]] = {
    "referrer": frozenset({SEE_OWN, REFER}),
    "coordinator": _CLINIC | {REFER, MEET, CONSENT, TREAT},
    "radiologist": _CLINIC
    | {REFER, MEET, VOTE, CONSENT, PLAN, APPROVE, TREAT, OVERRIDE, CORRECT, AUDIT},
    # A surgeon or oncologist of the meeting: votes there, and answers for nothing else.
    "specialist": frozenset({SEE, VOTE, HISTORY}),
    "audit lead": frozenset({SEE, HISTORY, AUDIT, EXPORT, SHARED, LOG, TOKENS}),
    "researcher": frozenset({SHARED, TOKENS}),
    # Runs the registry; is no clinician: sees accounts, log and imports, not the cases.
    "administrator": frozenset({PEOPLE, LOG, IMPORT, TOKENS}),
}
EVERY_RIGHT = frozenset().union(*RIGHTS.values())


def may(role: str, right: str) -> bool:
    """Whether a role has a right; an unknown role has none.

    >>> may("researcher", SEE), may("radiologist", APPROVE)
    (False, True)
    """
    return right in RIGHTS.get(role, frozenset())
