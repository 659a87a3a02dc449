"""Names of models, and near matches."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelspace.errors import UsageError
from modelspace.names import MAX_LENGTH, check_name, did_you_mean, near_matches, to_name

ALLOWED = set(string.ascii_letters + string.digits + "._-")


@pytest.mark.parametrize("name", ["depth", "resnet18-v1.5", "_x", "7", "A" * MAX_LENGTH])
def test_valid_names_come_back(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "-rf", "a:b", "a/b", "a b", "naïve", "a\n", "a\\b", "A" * (MAX_LENGTH + 1)]
)
def test_other_names_are_refused(name):
    with pytest.raises(UsageError, match="can't be the name of a probe set"):
        check_name(name, "probe set")


def test_the_hint_offers_a_name_that_would_do():
    with pytest.raises(UsageError) as caught:
        check_name("zoo:depth map")
    assert caught.value.message == "'zoo:depth map' can't be the name of a model"
    assert caught.value.hint.endswith("for example zoo-depth-map")


@given(st.text(max_size=300))
def test_to_name_gives_a_valid_name_or_nothing(text):
    name = to_name(text)
    assert name == "" or check_name(name) == name
    if set(text) <= ALLOWED and text[:1].isalnum() and text[-1:].isalnum() and len(text) <= MAX_LENGTH:
        assert name == text


def test_near_matches_ignore_case_and_find_parts():
    names = ["ResNet18", "resnet50", "depth", "normals"]
    assert near_matches("resnet19", names)[0] == "ResNet18"
    assert near_matches("NORMAL", names) == ["normals"]
    assert near_matches("my-depth-model", names) == ["depth"]
    assert near_matches("zzz", names) == []
    assert len(near_matches("a", ["a"] * 5 + ["A", "aa", "ab"])) <= 3


def test_did_you_mean():
    assert did_you_mean("dept", ["depth", "normals"]) == "did you mean depth?"
    assert did_you_mean("zzz", ["depth"], "see the list") == "see the list"
