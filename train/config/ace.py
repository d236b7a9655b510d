"""The options of ACE."""

from dataclasses import dataclass
from typing import Literal

from .check import check

Shadow = Literal["per-class", "per-sample", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AceConfig:
    """ACE: an action is the mean of its synonyms, training names it anew in every step, and each video has a wrong verb
    with the right object to stay away from. The paper trains `model.text_learns` "projection", `model.video_learns`
    "last" with 3 blocks, by SGD.
    """

    name: Literal["ace"] = "ace"
    """The method."""
    prompt: str = "{action}"
    """What stands around a name; {action} is verb and object. The paper says nothing of a prompt."""
    tau: float = 0.02
    """Temperature of the scores, > 0; it does not learn."""
    first_order: int = 0
    """Children of order 1 that a verb keeps, itself among them (M); 0 keeps what the bank has."""
    second_order: int = 0
    """Children of order 2 that each of them keeps, itself among them; 0 keeps what the bank has."""
    average_leaves: bool = True
    """Score an action by the mean of its children (Eq. 3), not by its name alone (Table 3, "leaf augmentation")."""
    fixed_loss: bool = True
    """Classify among the actions as they are called (Eq. 2)."""
    random_loss: bool = True
    """Classify among the actions under names that are drawn in each step (Eq. 4-5)."""
    shadow: Shadow = "per-class"
    """Whose negative verb is drawn in each step (Eq. 7): the class's, shared by its videos; each video's; or none."""
    shared_children: bool = False
    """Let a negative keep those of its children that are children of the right verb, too. Trees overlap, and such a
    child punishes what is right."""
    shadow_verbs: int = 0
    """Negative verbs that a class may draw from, chosen once per run; 0 keeps all of Eq. 6. Their texts are as many as
    classes times verbs times children: a bound for hundreds of classes."""

    def __post_init__(self) -> None:
        check(self.prompt.count("{action}") == 1, "method.prompt", "a text with {action} in it once", self.prompt)
        check(0 < self.tau < float("inf"), "method.tau", "> 0 and finite", self.tau)
        for name in ("first_order", "second_order", "shadow_verbs"):
            check(getattr(self, name) >= 0, f"method.{name}", ">= 0", getattr(self, name))
        check(self.fixed_loss or self.random_loss, "method.random_loss", "true where method.fixed_loss is false", False)
