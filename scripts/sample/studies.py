"""The studies of the synthetic sample: what is asked, in which arms, and what really drives the answers.

Everything here is data. A *proposal* is a public policy with a popularity and with loadings on the
traits of people (see `scripts/sample/people.py`); a *frame* is a text that an arm adds, with an effect
on everybody and with effects that differ by trait; a *form* is a question with its answer scale; a
*study* picks proposals, frames and forms. Proposals, frames and forms recur across studies in other
combinations: that regularity is what a model can carry from one study, arm or outcome to another.

Units: popularity, loadings and effects are in standard deviations of the latent answer, towards support.
"""

from dataclasses import dataclass, field

from common.scale import Scale

Loadings = dict[str, float]


@dataclass(frozen=True)
class Proposal:
    text: str
    popularity: float
    loadings: Loadings


@dataclass(frozen=True)
class Frame:
    """`wordings`: studies take turns in using them. `effect`: on everybody; `by`: more of it by trait."""

    wordings: tuple[str, ...]
    effect: float = 0.0
    by: Loadings = field(default_factory=dict)


@dataclass(frozen=True)
class Form:
    """A question about a proposal and its answer scale.

    question: asked after the proposal and the frame. scale: the true scale, whatever the text says.
    sign: -1 when higher answers mean less support. centre, width: the answer of a person whose latent
    support is 0, and how far one standard deviation moves it (points of the scale; for `open` scales in
    ladder steps). ladder: the round numbers that people give to an open question. heaps: of answers to
    a long scale, shares rounded to multiples of 10 and of 5. sentence: the answer format as worded in
    the text, when it isn't the scale's usual sentence.
    """

    question: str
    scale: Scale
    sign: int = 1
    centre: float = 0.0
    width: float = 1.0
    ladder: tuple[int, ...] = ()
    heaps: tuple[float, float] = (0.0, 0.0)
    sentence: str | None = None

    def answer_format(self) -> str:
        return self.sentence if self.sentence is not None else self.scale.sentence()


@dataclass(frozen=True)
class Study:
    """One study. `arms`: frame names; `tasks`: (form name, proposal names), one outcome each, whose
    proposals are its stimuli. `fields`: the demographic fields that it recorded. `arm_forms`: by arm, forms
    that replace another's (the scale differs between arms). `stray`: a code outside the scale and its share
    among the answers."""

    study_id: str
    people: int
    fields: tuple[str, ...]
    arms: tuple[str, ...]
    tasks: tuple[tuple[str, tuple[str, ...]], ...]
    arm_forms: dict[int, dict[str, str]] = field(default_factory=dict)
    stray: tuple[int, float] | None = None
    seen: bool = True


PROPOSALS = {
    "wind": Proposal("building more wind farms", 1.1, {"right": -0.5, "age": -0.2}),
    "carbon": Proposal("a tax on carbon", -1.0, {"right": -0.9, "education": 0.3}),
    "drilling": Proposal("drilling for oil in national parks", -1.4, {"right": 0.9, "age": 0.2}),
    "nuclear": Proposal("new nuclear power plants", 0.0, {"right": 0.3, "female": -0.5}),
    "refugees": Proposal("taking in more refugees", -0.5, {"right": -1.0, "education": 0.3}),
    "wall": Proposal("a wall along the border", -0.3, {"right": 1.1, "age": 0.3}),
    "citizenship": Proposal("a path to citizenship for immigrants", 0.8, {"right": -0.8, "urban": 0.3}),
    "visas": Proposal("more visas for foreign engineers", 0.2, {"education": 0.5, "right": -0.2}),
    "insurance": Proposal("public health insurance for everyone", 0.6, {"right": -1.0, "income": -0.3}),
    "vaccines": Proposal("free vaccines at school", 1.6, {"right": -0.5, "education": 0.3}),
    "sugar": Proposal("a tax on sugary drinks", -1.4, {"right": -0.4, "income": 0.2}),
    "leave": Proposal("paid leave for new parents", 1.9, {"female": 0.4, "age": -0.3}),
    "checks": Proposal("background checks for all gun buyers", 2.2, {"right": -0.4, "female": 0.3}),
    "rifles": Proposal("a ban on assault rifles", 0.5, {"right": -1.0, "female": 0.4, "urban": 0.3}),
    "police": Proposal("more police on the streets", 1.0, {"right": 0.5, "age": 0.4}),
    "sentences": Proposal("shorter prison sentences for drug users", -0.3, {"right": -0.6, "age": -0.3}),
    "wage": Proposal("a higher minimum wage", 1.3, {"right": -0.7, "income": -0.4}),
    "companies": Proposal("a tax cut for large companies", -2.1, {"right": 0.6, "income": 0.3}),
    "fortunes": Proposal("a tax on great fortunes", 1.0, {"right": -0.8, "income": -0.3}),
    "cash": Proposal("cash payments to poor families", 0.0, {"right": -0.7, "income": -0.5}),
    "faces": Proposal("face recognition by the police", -0.2, {"right": 0.3, "age": 0.5}),
    "trucks": Proposal("self-driving trucks on highways", -1.8, {"age": -0.5, "female": -0.3}),
    "phones": Proposal("a ban on phones in school", 1.4, {"age": 0.6}),
    "essays": Proposal("computers that grade school essays", -2.2, {"age": -0.3}),
    "tuition": Proposal("free tuition at public colleges", 0.5, {"right": -0.8, "age": -0.4}),
    "guards": Proposal("armed guards in schools", -0.2, {"right": 0.8, "education": -0.3}),
    "prayer": Proposal("prayer in public schools", -0.3, {"right": 0.9, "age": 0.3, "education": -0.3}),
    "schoolyear": Proposal("a longer school year", -1.6, {"age": 0.3, "education": 0.2}),
    "shelter": Proposal("a homeless shelter in your street", -1.1, {"right": -0.5, "urban": 0.3}),
    "bikes": Proposal("more bike lanes", 0.5, {"urban": 0.5, "age": -0.4}),
    "parking": Proposal("higher parking fees", -2.6, {"urban": -0.2, "income": 0.3}),
    "library": Proposal("a new public library", 2.2, {"education": 0.3, "female": 0.2}),
}

FRAMES = {
    "control": Frame(("",)),
    "cost": Frame(
        ("It would cost each household $300 a year.", "The cost for each household would be $300 a year."),
        -1.0, {"income": 0.3},
    ),
    "science": Frame(
        ("Nearly all scientists say that it works.", "Scientists agree that it works."),
        0.8, {"education": 0.4},
    ),
    "republicans": Frame(
        ("Republican leaders support it.", "It has the support of Republican leaders."), 0.0, {"party": 0.9}
    ),
    "democrats": Frame(
        ("Democratic leaders support it.", "It has the support of Democratic leaders."), 0.0, {"party": -0.9}
    ),
    "story": Frame(
        ("A mother tells how it changed her life.", "You read a mother's story: it changed her life."),
        0.6, {"female": 0.5},
    ),
    "danger": Frame(
        ("Opponents say that it puts people in danger.", "Opponents warn of the danger to people."),
        -0.9, {"age": -0.3},
    ),
    "majority": Frame(
        ("Polls find that most Americans favor it.", "In a poll most Americans favor it."),
        0.8, {"age": -0.3},
    ),
    "minority": Frame(
        ("Polls find that few Americans favor it.", "In a poll few Americans favor it."),
        -0.8, {"age": 0.3},
    ),
    "freedom": Frame(
        ("Critics call it an attack on freedom.", "Critics see it as an attack on freedom."),
        -0.8, {"right": -0.5},
    ),
    "fairness": Frame(
        ("Supporters call it a matter of fairness.", "Supporters see it as a matter of fairness."),
        0.6, {"right": -0.4},
    ),
    "jobs": Frame(
        ("Economists expect it to create many jobs.", "It would create many jobs, economists expect."),
        0.9, {"income": -0.3},
    ),
}  # fmt: skip

_OPPOSE = ("strongly oppose", "oppose", "neither", "support", "strongly support")
_ROUND_DOLLARS = (0, 1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000)


def _listed(*labels: str, first: int = 1) -> tuple[tuple[int, str], ...]:
    return tuple((first + number, label) for number, label in enumerate(labels))


def _ends(low: int, high: int, lowest: str, highest: str, kind: str = "ordinal") -> Scale:
    return Scale(kind, low, high, labels=((low, lowest), (high, highest)))  # type: ignore[arg-type]


FORMS = {
    "support7": Form(
        "How much do you oppose or support it?", _ends(1, 7, "strongly oppose", "strongly support"),
        centre=4, width=1.7,
    ),
    "support5": Form(
        "Do you oppose or support it?", Scale("ordinal", 1, 5, labels=_listed(*_OPPOSE)),
        centre=3, width=1.2,
    ),
    "support5_reversed": Form(
        "Do you oppose or support it?", Scale("ordinal", 1, 5, labels=_listed(*reversed(_OPPOSE))),
        sign=-1, centre=3, width=1.2,
    ),
    "agree4": Form(
        "Is it a good idea?",
        Scale("ordinal", 1, 4, labels=_listed("certainly not", "rather not", "rather yes", "certainly yes")),
        centre=2.5, width=1.0,
    ),
    "agree10": Form(
        "Do you agree that we need it?", _ends(0, 10, "disagree completely", "agree completely"),
        centre=5, width=2.8,
    ),
    "agree10_short": Form(
        "Do you agree that we need it?", _ends(0, 10, "disagree completely", "agree completely"),
        centre=5, width=2.8,
        sentence="Respond with a single integer between 0 (disagree completely) and 10 (agree completely).",
    ),
    "vote": Form(
        "Would you vote for it?", Scale("binary", 0, 1, labels=_listed("no", "yes", first=0)),
        centre=0.5, width=0.7,
    ),
    "vote12": Form(
        "Would you vote for it?", Scale("binary", 1, 2, labels=_listed("yes", "no")),
        sign=-1, centre=1.5, width=0.7,
    ),
    "vote_worded": Form(
        "Would you vote for it?", Scale("binary", 0, 1, labels=_listed("no", "yes", first=0)),
        centre=0.5, width=0.7, sentence="Only return 1 for yes or 0 for no.",
    ),
    "warm100": Form(
        "How warmly do you feel toward it?", _ends(0, 100, "very cold", "very warm", "bounded"),
        centre=50, width=27, heaps=(0.55, 0.35),
    ),
    "warm100_worded": Form(
        "How warmly do you feel toward it?", Scale("bounded", 0, 100),
        centre=50, width=27, heaps=(0.55, 0.35),
        sentence="Answer with a whole number from 0 to 100 and nothing else.",
    ),
    "better3": Form(
        "Would it make life worse or better?", _ends(-3, 3, "much worse", "much better"),
        centre=0, width=1.6,
    ),
    "better100": Form(
        "Would it make life worse or better?", _ends(-100, 100, "much worse", "much better", "bounded"),
        centre=0, width=50, heaps=(0.7, 0.25),
    ),
    "dollars": Form(
        "How many dollars a month would you give for it?",
        Scale("open", labels=((0, "dollars"),)), centre=6, width=4, ladder=_ROUND_DOLLARS,
        sentence="Only return an integer representing dollars, nothing else.",
    ),
    "gain": Form(
        "By how many dollars would it change your yearly income?",
        Scale("open", labels=((0, "dollars"),)), centre=6, width=2.5,
        ladder=(-5000, -2000, -1000, -500, -200, -100, 0, 100, 200, 500, 1000, 2000, 5000, 1000000),
        sentence="Only return an integer representing dollars (negative for a loss), nothing else.",
    ),
    "friends": Form(
        "Of your ten closest friends, how many favor it?", Scale("unstated"), centre=5, width=2.4,
        ladder=tuple(range(11)),
    ),
    "reason": Form(
        "What matters most to you here?",
        Scale("choice", 1, 4, labels=_listed("cost", "fairness", "safety", "freedom")),
    ),
}  # fmt: skip

# `reason` is a choice without order: its four utilities, by trait.
REASONS: tuple[tuple[float, Loadings], ...] = (
    (0.4, {"income": -0.6, "right": 0.3}),
    (0.3, {"right": -0.9, "education": 0.3}),
    (0.1, {"age": 0.6, "female": 0.5}),
    (0.0, {"right": 0.9, "female": -0.4}),
)
# A frame also moves what matters most: additions to the four utilities.
REASON_SHIFTS = {
    "cost": (1.2, 0, 0, 0), "fairness": (0, 1.2, 0, 0), "danger": (0, 0, 1.2, 0), "freedom": (0, 0, 0, 1.2),
    "jobs": (0.6, 0, 0, 0), "story": (0, 0.4, 0.4, 0),
}  # fmt: skip

_CORE = ("age", "gender", "education", "party_id", "ideology")
_MORE = (*_CORE, "ethnicity", "income", "metro_status")
_FULL = (
    "age", "gender", "education", "employment", "ethnicity", "marital_status", "housing_ownership",
    "housing_type", "location", "metro_status", "income", "internet_access", "household_size",
    "party_id", "ideology", "phone_service",
)  # fmt: skip

STUDIES = (
    Study(
        "ener1", 220, _MORE, ("control", "cost", "science", "jobs"),
        (("support7", ("wind", "carbon")), ("vote", ("carbon", "nuclear")),
         ("warm100", ("wind", "drilling")),
         ("agree10", ("nuclear", "drilling")), ("dollars", ("wind",)), ("better3", ("carbon", "wind"))),
    ),
    Study(
        "bord2", 220, _CORE, ("control", "republicans", "democrats", "story"),
        (("support5", ("refugees", "wall")), ("vote", ("wall", "citizenship")),
         ("better3", ("refugees", "visas")),
         ("warm100", ("citizenship", "refugees")), ("agree4", ("visas", "wall"))),
    ),
    Study(
        "heal3", 220, (*_MORE, "household_size"), ("control", "cost", "freedom", "majority"),
        (("support7", ("insurance", "sugar")), ("agree4", ("vaccines", "leave")),
         ("vote", ("sugar", "insurance")),
         ("reason", ("insurance", "sugar")), ("friends", ("vaccines", "leave"))),
    ),
    Study(
        "guns4", 220, _CORE, ("control", "danger", "freedom", "republicans"),
        (("agree10", ("checks", "rifles")), ("support5", ("rifles", "guards")),
         ("warm100", ("police", "checks")),
         ("vote_worded", ("rifles", "guards")), ("reason", ("rifles",))),
        stray=(99, 0.02),
    ),
    Study(
        "fair5", 220, _MORE, ("control", "fairness", "jobs", "cost"),
        (("support7", ("wage", "fortunes")), ("better100", ("companies", "cash")),
         ("vote", ("wage", "companies")),
         ("support5", ("cash", "fortunes")), ("gain", ("wage", "companies"))),
    ),
    Study(
        "tech6", 200, (*_CORE, "internet_access", "phone_service"), ("control", "science", "danger"),
        (("warm100", ("faces", "trucks", "essays")), ("support7", ("trucks", "phones")),
         ("better3", ("essays", "faces")), ("agree4", ("phones", "trucks")),
         ("vote12", ("essays", "phones"))),
    ),
    Study(
        "educ7", 220, (*_CORE, "marital_status", "household_size"),
        ("control", "majority", "minority", "story"),
        (("support5", ("tuition", "schoolyear")), ("agree10", ("guards", "prayer")),
         ("vote", ("tuition", "prayer")),
         ("warm100", ("schoolyear", "guards")), ("friends", ("tuition", "prayer"))),
    ),
    Study(
        "town8", 200, (*_CORE, "housing_ownership", "housing_type", "metro_status"),
        ("control", "cost", "majority"),
        (("support7", ("shelter", "bikes")), ("vote", ("parking", "library")),
         ("dollars", ("library", "bikes")),
         ("better3", ("shelter", "parking")), ("agree4", ("bikes", "library"))),
        stray=(-1, 0.015),
    ),
    Study(  # the scale itself differs between the arms
        "form9", 240, _MORE, ("control", "control", "science", "science"),
        (("support5", ("wind", "vaccines", "checks")), ("agree10", ("carbon", "wall")),
         ("vote", ("refugees", "parking")), ("support7", ("leave", "schoolyear"))),
        arm_forms={1: {"support5": "support7", "agree10": "warm100"}, 3: {"support5": "support7"}},
    ),
    Study(  # the labels are the manipulation: in two arms the scale runs the other way
        "flip1", 220, _MORE, ("control", "control", "majority", "majority"),
        (("support5", ("police", "wage", "sugar")), ("warm100", ("police", "sugar")),
         ("vote", ("wage", "bikes")),
         ("agree4", ("library", "cash"))),
        arm_forms={1: {"support5": "support5_reversed"}, 3: {"support5": "support5_reversed"}},
    ),
    Study(
        "elit2", 240, _CORE, ("control", "republicans", "democrats"),
        (("support7", ("checks", "drilling", "cash")), ("warm100_worded", ("visas", "prayer")),
         ("vote", ("nuclear", "sentences")), ("agree10_short", ("faces", "tuition"))),
    ),
    Study(
        "news3", 220, (*_CORE, "location"), ("majority", "minority", "science", "danger"),
        (("agree10", ("vaccines", "trucks")), ("support5", ("nuclear", "sentences")),
         ("vote", ("faces", "essays")),
         ("better3", ("citizenship", "police")), ("warm100", ("carbon", "leave"))),
    ),
    Study(
        "mora4", 220, _MORE, ("fairness", "freedom", "control", "danger"),
        (("support7", ("sentences", "fortunes")), ("reason", ("cash", "rifles")),
         ("better100", ("tuition", "wall")),
         ("agree4", ("shelter", "companies")), ("vote", ("phones", "refugees"))),
    ),
    Study(
        "work5", 200, (*_MORE, "employment"), ("control", "jobs", "story"),
        (("support5", ("wage", "visas")), ("warm100", ("companies", "cash", "wage")),
         ("gain", ("fortunes",)),
         ("agree10", ("leave", "essays")), ("vote", ("trucks", "citizenship"))),
    ),
    Study(
        "full6", 200, _FULL, ("control", "story", "minority"),
        (("support7", ("library", "wall")), ("warm100", ("bikes", "prayer")),
         ("vote", ("leave", "drilling")),
         ("better3", ("guards", "insurance")), ("support5", ("parking", "vaccines"))),
    ),
    # The unseen studies of the study split: known proposals, frames and forms, put together anew.
    Study(
        "unse1", 220, _CORE, ("control", "cost", "majority", "democrats"),
        (("support7", ("carbon", "refugees")), ("warm100", ("wage", "sugar")),
         ("vote", ("library", "wall")),
         ("agree10", ("companies", "checks")), ("support5", ("trucks", "leave"))), seen=False,
    ),
    Study(
        "unse2", 220, _MORE, ("control", "science", "freedom", "story"),
        (("support5", ("insurance", "drilling")), ("better3", ("parking", "vaccines")),
         ("agree4", ("rifles", "wind")), ("vote", ("police", "schoolyear")),
         ("warm100", ("essays", "citizenship"))),
        seen=False, stray=(-1, 0.015),
    ),
    Study(
        "unse3", 200, (*_CORE, "income"), ("republicans", "democrats", "fairness"),
        (("support7", ("tuition", "wall")), ("agree10", ("sentences", "phones")),
         ("vote", ("cash", "fortunes")),
         ("warm100", ("nuclear", "checks")), ("reason", ("wage", "guards"))), seen=False,
    ),
    Study(
        "unse4", 220, (*_CORE, "metro_status"), ("control", "danger", "jobs", "minority"),
        (("support5", ("shelter", "faces")), ("support7", ("library", "companies")),
         ("vote", ("bikes", "visas")),
         ("better3", ("wind", "trucks")), ("dollars", ("library", "parking"))), seen=False,
    ),
    Study(
        "unse5", 220, _CORE, ("control", "jobs", "danger"),
        (("warm100", ("drilling", "phones", "insurance")), ("agree4", ("schoolyear", "leave")),
         ("support5", ("prayer", "wage")), ("friends", ("refugees", "police")),
         ("better100", ("sugar", "cash"))),
        seen=False,
    ),
)  # fmt: skip
