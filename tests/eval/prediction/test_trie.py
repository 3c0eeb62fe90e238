"""Answers as token sequences."""

from hypothesis import given
from hypothesis import strategies as st

from eval.prediction.local_model import LocalModel
from eval.prediction.trie import MAX_NODES, AnswerTrie, TrieBuilder, make_trie, spellings

DIGITS = {str(digit): digit for digit in range(10)} | {"-": 10}
MORE = {**DIGITS, "-1": 11} | {str(number): number + 10 for number in range(10, 100)}


def read_back(trie: AnswerTrie) -> dict[int, set[tuple[int, ...]]]:
    """The sequences that the trie holds, by answer."""
    spelled: dict[int, set[tuple[int, ...]]] = {answer: set() for answer in trie.answers}
    for node, end in enumerate(trie.ends):
        if end >= 0:
            way, at = [], node
            while at >= 0:
                way.append(int(trie.tokens[at]))
                at = trie.parents[at]
            spelled[trie.answers[end]].add(tuple(reversed(way)))
    return spelled


@given(st.sets(st.integers(-2000, 2000), min_size=1, max_size=40))
def test_it_holds_every_spelling_of_every_answer_and_no_other(answers: set[int]) -> None:
    spelled = {answer: set(spellings(str(answer), MORE)) for answer in answers}
    usual = {
        answer: min(spellings_of, key=lambda ids: (len(ids), ids)) for answer, spellings_of in spelled.items()
    }
    trie = make_trie(spelled, usual)
    assert read_back(trie) == spelled
    shortest = {
        answer: {ids for ids in spellings_of if usual[answer] == ids}
        for answer, spellings_of in spelled.items()
    }
    assert read_back(make_trie(shortest, usual)) == {answer: {ids} for answer, ids in usual.items()}
    assert trie.usual.sum() == len(make_trie(shortest, usual))


@given(st.sets(st.integers(-500, 500), min_size=1, max_size=40))
def test_parents_come_first_and_each_sees_its_ancestors_only(answers: set[int]) -> None:
    spelled = {answer: set(spellings(str(answer), MORE)) for answer in answers}
    trie = make_trie(spelled, {answer: min(spellings_of) for answer, spellings_of in spelled.items()})
    assert (trie.parents < range(len(trie))).all()
    assert (trie.parents[:-1] <= trie.parents[1:]).all()
    assert (trie.ancestors().sum(axis=1) == trie.depths).all()


@given(st.integers(-(10**6), 10**6))
def test_every_spelling_spells_the_answer(answer: int) -> None:
    texts = {token: text for text, token in MORE.items()}
    read = spellings(str(answer), MORE)
    assert len(set(read)) == len(read)
    for sequence in read:
        assert "".join(texts[token] for token in sequence) == str(answer)
    assert tuple(DIGITS[sign] for sign in str(answer)) in read


def test_ten_is_one_token_or_two() -> None:
    assert sorted(spellings("10", MORE)) == [(1, 0), (20,)]
    assert sorted(spellings("-15", MORE)) == [(10, 1, 5), (10, 25), (11, 5)]


def test_the_tokenizers_own_spelling_is_always_there(model: LocalModel) -> None:
    builder = TrieBuilder(model.tokenizer)
    answers = [-100, -5, 0, 7, 10, 42, 100, 999, 1000]
    held = read_back(builder.build(answers))
    for answer in answers:
        assert tuple(model.tokenizer.encode(str(answer), add_special_tokens=False)) in held[answer]


def test_a_scale_of_long_numbers_keeps_the_tokenizers_spelling_alone(model: LocalModel) -> None:
    answers = range(10_000_000, 20_000_000, 10_000)
    trie = TrieBuilder(model.tokenizer).build(answers)
    assert (trie.ends >= 0).sum() == len(answers)
    assert len(trie) <= max(MAX_NODES, 8 * len(answers))
