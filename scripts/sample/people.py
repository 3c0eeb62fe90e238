"""The people of the synthetic sample: 16 correlated demographic fields, and the traits that drive answers.

A person is drawn as a chain: age, gender, ethnicity and region first; education given age and ethnicity;
employment and income given age and education; marital status, household, housing, internet and phone
given those; ideology given age, education, ethnicity, gender and place; party given ideology and
ethnicity. Every draw is a threshold on a normal variable, so that each field is correlated with those
before it.
"""

from typing import Any

import numpy as np

Rng = np.random.Generator
Table = dict[str, np.ndarray]

EDUCATION = ("Less than high school", "High school", "Some college", "Bachelor's degree", "Graduate degree")
INCOME = ("Under $25k", "$25k to $49k", "$50k to $84k", "$85k to $149k", "$150k or more")
IDEOLOGY = ("Very liberal", "Liberal", "Moderate", "Conservative", "Very conservative")
PARTY = ("Strong Democrat", "Democrat", "Independent", "Republican", "Strong Republican")
ETHNICITY = ("White", "Black", "Hispanic", "Asian", "Other")
LOCATION = ("Northeast", "Midwest", "South", "West")
HOUSING_TYPE = ("House", "Apartment", "Mobile home")


def _bins(score: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    """Cut a score of about unit variance into ordered groups of about these shares."""
    return np.searchsorted(np.quantile(score, np.cumsum(shares)[:-1]), score)


def _pick(labels: tuple[str, ...], index: np.ndarray) -> np.ndarray:
    return np.array(labels, dtype=object)[index]


def draw_people(rng: Rng, count: int) -> tuple[Table, Table]:
    """Draw `count` people: their 16 fields (objects, nothing missing yet) and their traits (floats).

    Traits are roughly in [-1.5, 1.5] around 0: right (ideology), party (Republican positive), age,
    education, income, urban; female is -0.5 or 0.5.
    """
    normal = lambda: rng.normal(size=count)  # noqa: E731 - a one-word helper for a dozen draws
    age = rng.integers(18, 90, count)
    years = (age - 53) / 21
    female = rng.random(count) < 0.52
    ethnicity = rng.choice(5, count, p=(0.62, 0.13, 0.15, 0.06, 0.04))
    region = rng.choice(4, count, p=(0.18, 0.21, 0.38, 0.23))
    urban = rng.random(count) < np.where(region == 1, 0.7, 0.85)

    schooling = 0.9 * normal() + 0.35 * (ethnicity == 3) - 0.25 * (ethnicity == 2) - 0.1 * years
    education = _bins(schooling, (0.09, 0.28, 0.28, 0.21, 0.14))
    retired = (age > 64) & (rng.random(count) < 0.8)
    working = ~retired & (rng.random(count) < 0.6 + 0.07 * education)
    wealth = 0.8 * normal() + 0.6 * schooling + 0.4 * working - 0.3 * retired
    income = _bins(wealth, (0.18, 0.2, 0.25, 0.24, 0.13))
    married = rng.random(count) < 1 / (1 + np.exp(-(0.3 + 0.5 * years + 0.4 * wealth)))
    widowed = ~married & (age > 60) & (rng.random(count) < 0.4)
    owner = rng.random(count) < 1 / (1 + np.exp(-(0.5 + 0.9 * years + 0.6 * wealth)))
    housing = np.where(owner, rng.random(count) < 0.1, 1 - (rng.random(count) < 0.3))
    housing = np.where(rng.random(count) < 0.06 * (income < 2), 2, housing)
    household = 1 + married + rng.poisson(0.9 * (age < 55) + 0.2)
    online = rng.random(count) < 1 / (1 + np.exp(-(3 - 0.8 * years + 0.8 * wealth)))

    leaning = (
        0.85 * normal() + 0.2 * years - 0.25 * schooling - 0.35 * (ethnicity == 1) - 0.15 * (female - 0.5)
        + 0.25 * (region == 2) - 0.4 * urban
    )  # fmt: skip
    ideology = _bins(leaning, (0.12, 0.2, 0.34, 0.22, 0.12))
    partisan = 0.55 * normal() + 0.9 * leaning - 0.6 * (ethnicity == 1) - 0.25 * (ethnicity == 2)
    party = _bins(partisan, (0.2, 0.15, 0.3, 0.15, 0.2))

    employment = np.where(retired, 2, np.where(working, rng.random(count) < 0.2, 3))
    fields = {
        "age": age,
        "gender": _pick(("Male", "Female"), female.astype(int)),
        "education": _pick(EDUCATION, education),
        "employment": _pick(("Working full time", "Working part time", "Retired", "Not working"), employment),
        "ethnicity": _pick(ETHNICITY, ethnicity),
        "marital_status": _pick(("Never married", "Married", "Widowed"), np.where(widowed, 2, married)),
        "housing_ownership": _pick(("Rented", "Owned"), owner.astype(int)),
        "housing_type": _pick(HOUSING_TYPE, housing.astype(int)),
        "location": _pick(LOCATION, region),
        "metro_status": _pick(("Non-metro area", "Metro area"), urban.astype(int)),
        "income": _pick(INCOME, income),
        "internet_access": _pick(("No", "Yes"), online.astype(int)),
        "household_size": household,
        "party_id": _pick(PARTY, party),
        "ideology": _pick(IDEOLOGY, ideology),
        "phone_service": _pick(
            ("Landline", "Cell phone only"), (rng.random(count) > 0.25 + 0.2 * years).astype(int)
        ),
    }
    traits = {
        "right": (ideology - 2) / 1.25,
        "party": (party - 2) / 1.4,
        "age": years,
        "female": female - 0.5,
        "education": (education - 2) / 1.2,
        "income": (income - 2) / 1.3,
        "urban": urban - 0.5,
    }
    return fields, traits


def with_gaps(rng: Rng, fields: Table, recorded: tuple[str, ...], missing: float) -> list[dict[str, Any]]:
    """People as their study reports them: fields it didn't record are null, others now and then."""
    count = len(fields["age"])
    shown = {name: (rng.random(count) >= missing) & (name in recorded) for name in fields}
    return [
        {
            name: (int(values[i]) if isinstance(values[i], np.integer) else values[i])
            if shown[name][i]
            else None
            for name, values in fields.items()
        }
        for i in range(count)
    ]
