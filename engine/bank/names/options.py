"""The rules of names as flags: part of every config that turns names into actions."""

from dataclasses import dataclass

from .actions import DropWords, Lemma, NameRules, Parentheses, RuleSet


@dataclass(frozen=True, kw_only=True)  # no slots: a config takes its options from several such classes
class NameOptions:
    """A rule set, and single rules set otherwise; a rule without its flag is as the rule set has it."""

    rules: RuleSet = "safe"
    """How names become actions. safe: words in lower case, articles go, lemmas; particles stay (push up is not push).
    paper: ActionHub's; all function words and the text in parentheses go too."""
    unicode: bool | None = None
    """One spelling for names that look the same: NFKC, straight apostrophes, no invisible characters."""
    parentheses: Parentheses | None = None
    """Text in parentheses."""
    camel_case: bool | None = None
    """ApplyEyeMakeup → apply eye makeup."""
    punctuation: bool | None = None
    """Underscores, + and punctuation become spaces."""
    lower_case: bool | None = None
    """Small letters."""
    drop_words: DropWords | None = None
    """Words that go: off, none; articles; minimal (a the of or and to with in on); function (all function words)."""
    lemma: Lemma | None = None
    """playing → play as a verb, horses → horse as a noun; verb+noun tries the verb first."""
    guess_lemmas: bool | None = None
    """Words that the dictionary of lemmas lacks go by their endings: jetskiing → jetski."""

    def name_rules(self) -> NameRules:
        """The rules that these flags stand for.

        Raises:
            UsageError: they contradict each other.
        """
        flags = {name: getattr(self, name) for name in NameRules.__slots__}
        return NameRules.of(self.rules, **{name: value for name, value in flags.items() if value is not None})
