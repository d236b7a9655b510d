"""English words that carry no action of their own, class by class: what `NameRules.drop_words` may take out of a name.

Written for action names, not taken from a search engine's list. Only closed classes of words are here, and a word that
also names a thing or an action (back, can, close, like, mine, open, past, round, stop, will) stays out: without it,
"back squat" or "open can" would be another action.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ARTICLES = frozenset({"a", "an", "the"})

MINIMAL = frozenset({"a", "the", "of", "or", "and", "to", "with", "in", "on"})
"""The few words that stand between the content words of a label."""

DETERMINERS = _words(
    """
    this that these those some any no each every either neither both all another other others such same
    few several many much more most less least enough
    """
)
PRONOUNS = _words(
    """
    i me my myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
    it its itself they them their theirs themselves who whom whose which what
    """
)
PREPOSITIONS = _words(
    """
    about above across after against along among amid around as at before behind below beneath beside besides between
    beyond by despite during except for from in inside into near of on onto outside over per since than through
    throughout till to toward towards under underneath until upon via with within without
    """
)
PARTICLES = frozenset({"up", "down", "off", "out", "away", "apart", "aside"})
"""What follows a verb and is no preposition; in, on, over and through are both and stand above."""

CONJUNCTIONS = _words("and or nor but so yet if because although though unless while whereas whether")
AUXILIARIES = _words(
    """
    am is are was were be been being have has had having do does did doing
    could might must shall should would ought cannot
    """
)
ADVERBS = _words("not only just too very then there here when where why how again once ever never also")

FUNCTION_WORDS = ARTICLES | DETERMINERS | PRONOUNS | PREPOSITIONS | PARTICLES | CONJUNCTIONS | AUXILIARIES | ADVERBS
