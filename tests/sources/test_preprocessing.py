"""Where the preprocessing comes from, and what happens when it is incomplete."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from modelspace.errors import UsageError
from modelspace.sources import LoadedModel, PreprocessingFlags, from_module
from modelspace.sources.base import flags_of, merge_preprocessing, module_preprocessing
from modelspace.types import Preprocessing

IMAGENET = Preprocessing((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MEAN_AND_STD = "'mean': (0.485, 0.456, 0.406), 'std': (0.229, 0.224, 0.225)"
FLAGS = f"`preprocessing={{'input_size': 224, {MEAN_AND_STD}}}`"


def values(number):
    return st.tuples(number, number, number)


number = st.floats(-4, 4).map(lambda v: v + 0.0)
FIELDS = {
    "input_size": st.tuples(st.integers(1, 512), st.integers(1, 512)),
    "mean": values(number),
    "std": values(st.floats(0.1, 4)),
    "channels": st.sampled_from(["rgb", "bgr"]),
    "value_range": st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)]),
}
complete = st.fixed_dictionaries(FIELDS)


@given(complete, complete)
def test_every_flag_overrides_and_every_other_field_stays(stated, flags):
    assert merge_preprocessing(stated, flags_of(flags)) == Preprocessing(**flags)
    assert merge_preprocessing(Preprocessing(**stated), PreprocessingFlags()) == Preprocessing(**stated)
    assert merge_preprocessing(stated, PreprocessingFlags(input_size=flags["input_size"])) == Preprocessing(
        **{**stated, "input_size": flags["input_size"]}
    )
    both = PreprocessingFlags(mean=flags["mean"], std=flags["std"])
    assert merge_preprocessing(stated, both) == Preprocessing(**{**stated, "mean": flags["mean"], "std": flags["std"]})


@given(complete)
def test_a_preprocessing_survives_as_a_mapping_and_as_flags(fields):
    preprocessing = Preprocessing(**fields)
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing
    assert flags_of(preprocessing).stated() == fields
    assert merge_preprocessing(None, flags_of(preprocessing)) == preprocessing


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "mean and std of the preprocessing are"),
        ({"mean": (0.5,) * 3}, "std of the preprocessing is"),
        ({"std": (0.5,) * 3}, "mean of the preprocessing is"),
        ({"mean": (), "std": ()}, "mean and std of the preprocessing are"),
    ],
)
def test_mean_and_std_are_never_guessed_in_python_either(given, missing):
    for make in (
        lambda: Preprocessing(input_size=(224, 224), **given),
        lambda: Preprocessing.from_dict({"input_size": 224, **given}),
    ):
        with pytest.raises(UsageError, match=f"^the {missing} not given") as caught:
            make()
        assert "`mean=(0.5, 0.5, 0.5)` and `std=(0.5, 0.5, 0.5)`" in caught.value.hint
        assert "Preprocessing.imagenet(224)" in caught.value.hint
        assert "Preprocessing.raw(224)" in caught.value.hint


def test_imagenet_and_raw_values_have_a_constructor_and_a_side_is_a_square():
    assert Preprocessing.imagenet(224) == IMAGENET
    assert Preprocessing.imagenet((192, 256), resize=300).resize == (300, 300)
    assert Preprocessing.raw(28, channels="gray") == Preprocessing((28, 28), (0.0,), (1.0,), "gray")
    assert Preprocessing.raw(8, value_range=(-1, 1)).to_dict()["mean"] == [0.0] * 3
    assert Preprocessing(input_size=np.int64(224), mean=IMAGENET.mean, std=IMAGENET.std) == IMAGENET
    assert Preprocessing(8, 0.5, 0.25, "gray").std == (0.25,)


def test_without_any_preprocessing():
    with pytest.raises(UsageError) as caught:
        merge_preprocessing(None, PreprocessingFlags(), "python:net.py:make")
    assert caught.value.message == "the input size, mean and std of python:net.py:make are not given"
    assert caught.value.hint == f"add the values it was trained with, for example {FLAGS}"


@pytest.mark.parametrize(
    ("stated", "flags", "words", "hint"),
    [
        ({"input_size": 64}, {}, "the mean and std of the model are", f"`preprocessing={{{MEAN_AND_STD}}}`"),
        (
            {"mean": [0.5] * 3, "std": [0.5] * 3},
            {},
            "the input size of the model is",
            "`preprocessing={'input_size': 224}`",
        ),
        (
            {"input_size": 64},
            {"mean": [0.5] * 3},
            "the std of the model is",
            "`preprocessing={'std': (0.229, 0.224, 0.225)}`",
        ),
        ({"channels": "rgb", "value_range": (0, 1)}, {}, "the input size, mean and std of the model are", FLAGS),
    ],
)
def test_only_what_is_missing_is_asked_for(stated, flags, words, hint):
    with pytest.raises(UsageError) as caught:
        merge_preprocessing(stated, flags_of(flags))
    assert caught.value.message == f"{words} not given"
    assert caught.value.hint == f"add the values it was trained with, for example {hint}"


def test_channels_and_range_follow_the_convention_of_mean_and_std():
    merged = merge_preprocessing({"input_size": 8, "mean": [0.5] * 3, "std": [0.2] * 3}, PreprocessingFlags())
    assert merged == Preprocessing((8, 8), (0.5,) * 3, (0.2,) * 3, "rgb", (0.0, 1.0))


def test_a_mean_outside_the_conventional_range_is_not_believed():
    stated = {"input_size": 8, "mean": [104, 117, 123], "std": [1, 1, 1]}
    with pytest.raises(UsageError, match=r"mean 104,117,123 of the model is outside 0\.\.1") as caught:
        merge_preprocessing(stated, PreprocessingFlags())
    assert caught.value.hint.startswith("add `preprocessing={'value_range': (0, 255)}`")
    assert merge_preprocessing(stated, PreprocessingFlags(value_range=(0, 255))).value_range == (0, 255)


def test_one_mean_and_one_std_need_channels():
    stated = {"input_size": 8, "mean": 0.1307, "std": 0.3081}
    with pytest.raises(UsageError) as caught:
        merge_preprocessing(stated, PreprocessingFlags())
    assert caught.value.hint == "add `preprocessing={'channels': 'gray'}`"
    assert merge_preprocessing(stated, PreprocessingFlags(channels="gray")).mean == (0.1307,)


def test_the_number_of_values_must_fit_the_channels():
    with pytest.raises(UsageError, match=r"rgb input has 3 channel\(s\), but mean has 1"):
        merge_preprocessing(IMAGENET, PreprocessingFlags(mean=(0.5,), std=(0.5,)))


@pytest.mark.parametrize("flags", [{"value_range": (0.0, 255.0)}, {"channels": "bgr"}])
def test_a_flag_that_changes_the_meaning_of_mean_and_std_needs_them_too(flags):
    with pytest.raises(UsageError, match="changes the meaning of the mean and std of the model") as caught:
        merge_preprocessing(IMAGENET, PreprocessingFlags(**flags))
    assert caught.value.hint.startswith("add `preprocessing={'mean': ")
    with pytest.raises(UsageError, match="meaning of the std of"):
        merge_preprocessing(IMAGENET, PreprocessingFlags(**flags, mean=(0.0,) * 3))
    consistent = PreprocessingFlags(**flags, mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 3.0))
    assert merge_preprocessing(IMAGENET, consistent).mean == (1.0, 2.0, 3.0)


def test_such_a_flag_is_fine_where_mean_and_std_dont_depend_on_it():
    neutral = Preprocessing.raw((8, 8))
    assert merge_preprocessing(neutral, PreprocessingFlags(value_range=(0.0, 255.0))).value_range == (0.0, 255.0)
    same = Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3)
    assert merge_preprocessing(same, PreprocessingFlags(channels="bgr")).channels == "bgr"
    assert merge_preprocessing(IMAGENET, PreprocessingFlags(channels="rgb")) == IMAGENET


def test_flags_are_read_from_text():
    flags = PreprocessingFlags.parse(
        input_size="192x256", mean="0.5, 0.4,-.3", std="1", channels="BGR", value_range="-1,1"
    )
    assert flags == PreprocessingFlags((192, 256), (0.5, 0.4, -0.3), (1.0,), "bgr", (-1.0, 1.0))
    assert PreprocessingFlags.parse(input_size="224").input_size == (224, 224)
    assert PreprocessingFlags.parse() == PreprocessingFlags()


@pytest.mark.parametrize(
    ("flag", "text", "message"),
    [
        ("input_size", "big", "`input_size='big'` is neither a side nor HEIGHTxWIDTH in pixels"),
        ("input_size", "1x2x3", "`input_size='1x2x3'` is neither"),
        ("input_size", "-5", "`input_size='-5'` is neither"),
        ("mean", "a,b", "`mean='a,b'` is not a comma-separated list of numbers"),
        ("std", "", "`std=''` is not a comma-separated list of numbers"),
        ("value_range", "1", "`value_range='1'` is not a lowest and a highest value"),
    ],
)
def test_flags_that_cant_be_read_are_named(flag, text, message):
    with pytest.raises(UsageError) as caught:
        PreprocessingFlags.parse(**{flag: text})
    assert caught.value.message.startswith(message)
    assert "example: " in caught.value.hint


def test_unknown_and_unreadable_entries_of_a_mapping_are_refused():
    with pytest.raises(UsageError, match="unknown entries: men, size") as caught:
        PreprocessingFlags.from_dict({"size": 3, "men": 1})
    assert caught.value.hint.startswith("the entries are input_size, mean, std, channels, value_range, resize, crop")
    with pytest.raises(UsageError, match="can't be read"):
        PreprocessingFlags.from_dict({"mean": ["x"]})


def module_with(**attributes):
    module = nn.Conv2d(3, 4, 1)
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def test_a_module_states_its_preprocessing_in_an_attribute():
    assert module_preprocessing(module_with()) is None
    assert module_preprocessing(module_with(modelspace_preprocessing=IMAGENET)) is IMAGENET
    assert from_module(module_with(preprocessing=IMAGENET.to_dict())).preprocessing == IMAGENET
    first = module_with(modelspace_preprocessing=IMAGENET, preprocessing={"input_size": 7})
    assert module_preprocessing(first) is IMAGENET


def test_an_unrelated_attribute_of_that_name_is_ignored():
    assert module_preprocessing(module_with(preprocessing=nn.Identity())) is None
    assert module_preprocessing(module_with(preprocessing="resize")) is None
    assert module_preprocessing(module_with(preprocessing={"crop": 3})) is None


def test_but_a_typo_in_it_is_reported():
    with pytest.raises(UsageError, match="unknown entries: men"):
        module_preprocessing(module_with(preprocessing={"input_size": 3, "men": 1}))
    with pytest.raises(UsageError, match="unknown entries: size"):
        module_preprocessing(module_with(modelspace_preprocessing={"size": 3}))
    with pytest.raises(UsageError, match=r"Conv2d\.modelspace_preprocessing is a str, not a Preprocessing or a dict"):
        module_preprocessing(module_with(modelspace_preprocessing="resize"))


def test_from_module_describes_and_does_not_touch():
    module = module_with(modelspace_layer="0", modelspace_task="depth", modelspace_data="rooms")
    module.train()
    loaded = from_module(module, preprocessing={**IMAGENET.to_dict(), "input_size": 64})
    assert isinstance(loaded, LoadedModel)
    assert loaded.module is module
    assert module.training
    assert loaded.preprocessing.input_size == (64, 64)
    assert (loaded.uri, loaded.suggested_name) == ("live:torch.nn.modules.conv.Conv2d", "Conv2d")
    assert (loaded.parameters, loaded.architecture) == (16, "Conv2d")
    assert (loaded.layer, loaded.task, loaded.data) == ("0", "depth", "rooms")


def test_flags_override_the_modules_own_preprocessing():
    module = module_with(preprocessing=IMAGENET)
    flags = PreprocessingFlags(input_size=(32, 48))
    loaded = from_module(module, preprocessing=flags, uri="python:nets/a.py:make")
    assert loaded.preprocessing == Preprocessing((32, 48), IMAGENET.mean, IMAGENET.std)
    assert (loaded.uri, loaded.suggested_name) == ("python:nets/a.py:make", "make")


def test_from_module_refuses_other_objects_and_incomplete_preprocessing():
    with pytest.raises(UsageError, match="a str is not a torch module"):
        from_module("net")
    with pytest.raises(UsageError, match=r"of live:torch.* are not given"):
        from_module(nn.Conv2d(3, 4, 1))
