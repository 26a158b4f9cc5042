"""The tests can fail: every mutation of `mutations.py` is caught, and the library itself is not."""

import pytest

from tests import mutations


@pytest.mark.slow
def test_every_mutation_is_caught():
    outcomes = mutations.run(mutations.MUTATIONS)
    clean = outcomes.pop("(no mutation)")
    assert clean.code == 0, clean.output
    assert len(outcomes) == len(mutations.MUTATIONS)
    wrong = {name: outcome.output for name, outcome in outcomes.items() if outcome.code != 1}
    assert not wrong, wrong


@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutations_fit_the_library(mutation, tmp_path):
    file = tmp_path / "pdo_jax" / mutation.file
    file.parent.mkdir(parents=True)
    original = (mutations.ROOT / "pdo_jax" / mutation.file).read_text(encoding="utf-8")
    file.write_text(original, encoding="utf-8")
    mutations.apply(mutation, tmp_path)
    mutated = file.read_text(encoding="utf-8")
    assert mutated != original
    compile(mutated, mutation.file, "exec")
    for test in mutation.tests:
        assert (mutations.ROOT / test.split("::")[0]).exists()


def test_a_mutation_that_has_rotted_is_refused(tmp_path):
    file = tmp_path / "pdo_jax" / "groups.py"
    file.parent.mkdir()
    mutation = mutations.Mutation("rotten", "groups.py", "a = 1", "a = 2", ())
    for text, count in (("b = 1\n", 0), ("a = 1\na = 1\n", 2)):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(
            ValueError, match=f"'a = 1' occurs {count} times.* bring the mutation up"
        ):
            mutations.apply(mutation, tmp_path)


def test_names_are_different():
    names = [mutation.name for mutation in mutations.MUTATIONS]
    assert len(set(names)) == len(names) >= 20
