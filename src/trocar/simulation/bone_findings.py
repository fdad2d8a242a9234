"""What is said of a bone's strength: that it may break, and why the numbers may not be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trocar.facts import strength as facts
from trocar.facts.strength import LoadCase
from trocar.model.case import Finding, Gravity
from trocar.model.strength import Bearing, BoneState
from trocar.simulation.bone_model import Bone

_MANY_LOOSE = 0.01  # share of the bone that hangs on nothing, from which it is said


def told(
    bone: Bone,
    bearings: Sequence[Bearing],
    cases: Sequence[LoadCase],
    weight_kg: float | None,
    loose: int,
    given_ml: Mapping[BoneState, float],
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """What a person must know before believing the numbers, and what is unknown.

    ``loose`` cubes hang on nothing that is held; ``given_ml`` is all the cement of each state.
    """
    findings: list[Finding] = []
    unknown: list[str] = []
    real = "found" if any(b.state == "found" for b in bearings) else "now"  # the bone of today
    before = {b.load: b.failure_n[b.criterion].mean for b in bearings if b.state == "now"}
    if bone.foreign_ml >= float(facts.value("foreign_told")):
        unknown.append("bone under metal or old cement")
        findings.append(
            Finding(
                gravity=Gravity.STOP,
                message="Metal or old cement lies in this bone or against it ({ml:.1f} ml): this "
                "CT shows it neither as it was nor what it bears. Give the CT from before the "
                "cement, and the cement beside it.",
                values={"ml": bone.foreign_ml},
            )
        )
    for state, share in bone.cement.items():
        inside = float(share[bone.bone].sum()) * bone.grid.voxel_ml
        findings.append(
            Finding(
                gravity=Gravity.NOTE,
                message="Of the cement ({state}) {inside:.1f} ml lie in the bone and are counted; "
                "what leaked, {outside:.1f} ml, bears nothing.",
                values={
                    "state": state,
                    "inside": inside,
                    "outside": max(0.0, given_ml[state] - inside),
                },
            )
        )
    # A model by which even the intact bone breaks knows nothing of when this one does.
    absurd = {
        b.load for b in bearings if b.state == "intact" and facts.at_high_risk(b.ratio.mean, 1.0)
    }
    if absurd:
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="By this model even the intact bone would break under the usual load: "
                "law, load or support do not fit this bone. Compare the states with "
                "each other only.",
            )
        )
    for one in bearings:
        if one.state == real and one.load not in absurd:
            findings += _breaks(one)
        if one.state in ("planned", "found") and one.of_intact is not None:
            if one.of_intact.mean < float(facts.value("restored_enough")):
                findings.append(
                    Finding(
                        gravity=Gravity.CAUTION,
                        message="With cement ({state}) the bone bears {share:.0%} of what it "
                        "would bear intact under {load}.",
                        values={"state": one.state, "share": one.of_intact.mean, "load": one.label},
                    )
                )
            if one.failure_n[one.criterion].mean < before[one.load]:
                findings.append(
                    Finding(
                        gravity=Gravity.NOTE,
                        message="By {criterion} the cement ({state}) seems to weaken the bone "
                        "under {load}: bone beside stiff cement is strained more. Look at the "
                        "stiffness and the other criteria, too.",
                        values={
                            "criterion": one.criterion,
                            "state": one.state,
                            "load": one.label,
                        },
                    )
                )
            if one.cement_used is not None and one.cement_used.mean >= 1.0:
                findings.append(
                    Finding(
                        gravity=Gravity.CAUTION,
                        message="Under {load} the cement itself ({state}) reaches its strength.",
                        values={"load": one.label, "state": one.state},
                    )
                )
    if bone.calibration.method == "none":
        unknown.append("density of this scanner")
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="The CT is not calibrated: density may be off by a fifth, and strength "
                "by more. Compare the states with each other; do not read the newtons "
                "as this patient's.",
            )
        )
    if bone.cut:
        unknown.append("bone beyond the image")
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="The bone runs out of the image; only the part that is seen is loaded.",
            )
        )
    rest = (loose + bone.loose) / max(1, int(np.count_nonzero(bone.bone)) + bone.loose)
    if rest > _MANY_LOOSE:
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="{share:.0%} of the bone hangs on nothing that is held and bears no load.",
                values={"share": rest},
            )
        )
    if any(c.by_weight() for c in cases) and weight_kg is None:
        unknown.append("body weight")
        findings.append(
            Finding(
                gravity=Gravity.NOTE,
                message="The body weight is not known; {kg:.0f} kg is taken.",
                values={"kg": float(facts.value("body_weight"))},
            )
        )
    rule = facts.site(bone.site.kind)
    if not rule.law.verified or rule.evidence == "placeholder":
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="The law from density to stiffness ({law}) is not verified for this site.",
                values={"law": rule.law.label},
            )
        )
    if any(c.evidence == "placeholder" for c in cases):
        findings.append(
            Finding(
                gravity=Gravity.CAUTION,
                message="The load itself is a placeholder: no source was at hand for this site.",
            )
        )
    run = {c.name for c in cases}
    others = [c for c in facts.loads_for(bone.site.kind, bone.site.region) if c.name not in run]
    if others:
        findings.append(
            Finding(
                gravity=Gravity.NOTE,
                message="Not computed: {loads}.",
                values={"loads": ", ".join(c.label for c in others)},
            )
        )
    findings.append(
        Finding(
            gravity=Gravity.NOTE,
            message="Strength is computed for single loads on a bone alone, without muscles, "
            "ligaments and neighbours, and says nothing of falls or of many steps. It "
            "is no verdict on walking.",
        )
    )
    return tuple(findings), tuple(unknown)


def _breaks(one: Bearing) -> list[Finding]:
    """Whether the bone as it is today, with the cement that is in it, is expected to break."""
    values = {"load": one.label, "ratio": one.ratio.mean, "high": one.ratio.high}
    found = one.state == "found"
    if facts.at_high_risk(one.ratio.mean, 1.0):
        if found:
            return [
                Finding(
                    gravity=Gravity.STOP,
                    message="Even with the cement found, the bone is expected to break under "
                    "{load}: the load is {ratio:.2f} times what it bears.",
                    values=values,
                )
            ]
        return [
            Finding(
                gravity=Gravity.STOP,
                message="As it is, the bone is expected to break under {load}: the load is "
                "{ratio:.2f} times what it bears.",
                values=values,
            )
        ]
    if not facts.at_high_risk(one.ratio.high, 1.0):
        return []
    if found:
        return [
            Finding(
                gravity=Gravity.CAUTION,
                message="With the cement found, the bone may still break under {load}: the load is "
                "{ratio:.2f} times what it bears, up to {high:.2f} at the weak end.",
                values=values,
            )
        ]
    return [
        Finding(
            gravity=Gravity.CAUTION,
            message="As it is, the bone may break under {load}: the load is {ratio:.2f} times what "
            "it bears, up to {high:.2f} at the weak end.",
            values=values,
        )
    ]
