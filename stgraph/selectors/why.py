"""Why a token was kept or dropped, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import StgraphError
from ..kernels import snap
from .verdict import KEPT, Verdict

if TYPE_CHECKING:
    from .selection import Selection

_REASONS = {
    Verdict.DROPPED: "it is neither among the most central of its community nor an event, so it is no candidate",
    Verdict.REPRESENTATIVE: "it is among the most central tokens of its community",
    Verdict.EVENT: "it is an event",
    Verdict.BOTH: "it is among the most central tokens of its community and an event",
    Verdict.FILLED: "no candidate, but its importance won it a free place in the budget",
    Verdict.TRIMMED: "it was a candidate, but more important candidates filled the budget",
    Verdict.SEPARATOR: "it is the separator of a part of the video that keeps many tokens",
}

_RANKING_REASONS = {
    Verdict.DROPPED: "others came before it in the ranking of the method, which has no candidates",
    Verdict.FILLED: "it is among the first in the ranking of the method, which has no candidates",
}


def why(selection: Selection, token: int) -> str:
    """Why a token was kept or dropped, in words.

    Raises:
        StgraphError: there is no such token.
    """
    n = len(selection.verdict)
    if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < n:
        raise StgraphError(f"token must be a whole number from 0 to {n - 1}, got {token!r}")
    t, y, x = selection.coords[token].tolist()
    verdict = Verdict(int(selection.verdict[token]))
    many = f"video {int(selection.batch[token])}, " if len(selection.budget) > 1 else ""
    where = f"Token {token} ({many}frame {t}, row {y}, column {x}) was {'kept' if verdict in KEPT else 'dropped'}: "
    community = int(selection.community[token])
    facts = []
    if selection.merge_target is not None and int(selection.merge_target[token]) >= 0:
        share = f"with weight {float(selection.merge_weight[token]):.3g}" if selection.merge_weight is not None else ""
        facts.append(f"it was merged into token {int(selection.merge_target[token])} {share}".rstrip())
    elif selection.merge_target is not None and verdict in KEPT:
        taken = int((selection.merge_target == token).sum())
        facts.append(f"it takes in {taken} other token{'s' if taken != 1 else ''}")
    if community >= 0:
        facts.append(_standing(selection, token, community))
    if verdict is not Verdict.SEPARATOR and bool(selection.difference.any()):
        facts.append(f"it differs from its past by {float(selection.difference[token]):.3f}")
    ranks_all = not bool(selection.candidate.any())  # in all other cases importance ranks candidates only
    if verdict is not Verdict.SEPARATOR and (ranks_all or verdict is not Verdict.DROPPED):
        facts.append(f"its importance is {float(selection.importance[token]):.4g}, {_distance(selection, token)}")
    reasons = _REASONS | _RANKING_REASONS if ranks_all else _REASONS
    return where + reasons[verdict] + ("; " + ", ".join(facts) if facts else "") + "."


def _standing(selection: Selection, token: int, community: int) -> str:
    members = (selection.community == community).nonzero()[:, 0]
    if len(members) == 1:
        return "it is a community of its own"
    centrality, own = snap(selection.centrality[members]), snap(selection.centrality[token])
    place = 1 + int(((centrality > own) | ((centrality == own) & (members < token))).sum())
    stay = int((selection.candidate[members] & 1).sum())
    return (
        f"its community {community} has {len(members)} tokens, of which the {stay} most central represent it, and "
        f"it is number {place} with a centrality of {float(selection.centrality[token]):.3f}"
    )


def _distance(selection: Selection, token: int) -> str:
    margin = float(selection.margin[token])
    if not margin:
        return "that of the last kept token"
    return f"{abs(margin):.3g} {'above' if margin > 0 else 'below'} the last kept token"
