"""How like the evaluated experiments a new one is: its words, text lengths, answer scales and profiles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from eval.simulation.trust import Pairs

SHOWN = 3  # the nearest studies that are named


@dataclass(frozen=True)
class Nearest:
    """An evaluated study and how alike its texts are: cosine of TF-IDF vectors, 0 to 1."""

    study: str
    similarity: float
    pairs: int
    sign_agreement: float | None


@dataclass(frozen=True)
class Likeness:
    """The nearest evaluated studies, and warnings about what no evaluated study was like."""

    nearest: list[Nearest]
    warnings: list[str]


def compare(
    texts: Sequence[str],
    kinds: Sequence[str],
    has_profile: bool,
    pairs: Pairs,
    cells: pl.DataFrame,
) -> Likeness:
    """How like the evaluated experiments this one is, by its texts, scale kinds and profiles."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # slow to import: only with an evaluation

    by_study = cells.group_by("study_id").agg(pl.col("stimuli").drop_nulls()).sort("study_id")
    documents = [" ".join(stimuli) for stimuli in by_study["stimuli"]]
    warnings = []
    nearest: list[Nearest] = []
    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    if any(documents):
        evaluated = vectorizer.fit_transform(documents)
        alike = (vectorizer.transform([" ".join(texts)]) @ evaluated.T).toarray()[0]
        for index in np.argsort(-alike)[:SHOWN]:
            study = by_study["study_id"][int(index)]
            nearest.append(Nearest(study, float(alike[index]), *_signs(pairs, study)))
        among = (evaluated @ evaluated.T).toarray()
        np.fill_diagonal(among, 0)
        usual = float(np.quantile(among.max(axis=1), 0.05)) if len(documents) > 1 else 0.0
        if alike.max() < usual:
            warnings.append(
                f"its words are unlike every evaluated study (similarity {alike.max():.2f}; "
                f"evaluated studies have {usual:.2f} or more with their nearest)"
            )
    lengths = cells["stimuli"].drop_nulls().str.len_chars()
    if len(lengths):
        low, high = lengths.to_numpy().min(), lengths.to_numpy().max()
        outside = [len(text) for text in texts if not 0.8 * low <= len(text) <= 1.25 * high]
        if outside:
            warnings.append(f"texts of {outside[0]} characters: evaluated ones have {low} to {high}")
    unknown = sorted(set(kinds) - set(cells["scale_kind"].drop_nulls()))
    if unknown:
        warnings.append(f"no evaluated study has an answer scale of kind {', '.join(unknown)}")
    if not has_profile:
        warnings.append("the people have no demographic profile: the model was evaluated with profiles")
    return Likeness(nearest, warnings)


def _signs(pairs: Pairs, study: str) -> tuple[int, float | None]:
    held = pairs.where(pairs.study == study)
    agree = np.sign(held.predicted) == np.sign(held.observed)
    return len(held), float(agree.mean()) if len(held) else None
