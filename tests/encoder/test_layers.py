"""The encoder output: found, named, refused; and the list of layers."""

from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from attribution_nets import NETS, Attention, Residual, SqueezeExcite, build, images
from torch import Tensor, nn

from modelspace.attribution.engine import attribute
from modelspace.encoder.layers import LayerRow, Tap, executed_layers, find_encoder_output, first_tensor, unwrap
from modelspace.errors import EmbeddingError, NotFoundError
from modelspace.types import LayerChoice


def narrow(net: nn.Module) -> nn.Module:
    return net.float().eval()


X = images(2, dtype=torch.float32)


def found(net: nn.Module, layer: str | None = None) -> tuple[str, str]:
    tap = find_encoder_output(net, X, layer)
    return tap.layer, tap.found_by


# --- found


def features(width: int = 6) -> list[nn.Module]:
    return [nn.Conv2d(3, width, 3, padding=1), nn.ReLU()]


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.dist = nn.Linear(192, 8), nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.body(x.flatten(1)))
        return (self.head(x) + self.dist(x)) / 2


class Functional(nn.Module):
    """Its last linear map is a parameter of the whole model."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.weight = nn.Linear(192, 8), nn.Parameter(torch.randn(3, 8))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x.flatten(1))) @ self.weight.t()


POOLED = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
AUTOMATIC = {
    # a classifier, then softmax, dropout, squeezes
    "fc:in": Residual(),
    "head:in": Attention(),
    "4:in": nn.Sequential(*features(), *POOLED, nn.Linear(6, 3), nn.Dropout(), nn.Softmax(1)),
    "2:in": nn.Sequential(*features(), nn.Conv2d(6, 3, 1), nn.ReLU(), *POOLED),  # SqueezeNet
    "3:in": nn.Sequential(*features(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 3, 1), nn.Flatten(), nn.LogSoftmax(1)),
    "5.1:in": nn.Sequential(*features(), *POOLED, nn.Linear(6, 6), nn.Sequential(nn.GELU(), nn.Linear(6, 2))),
}
NO_CLASSIFIER = {
    "it has shape (4, 8, 8) per image, which are no class scores": nn.Conv2d(3, 4, 1),
    "it is no linear map of another layer": nn.Sequential(*features(), *POOLED),
    "it has shape (8, 8, 8) per image, which are no class scores": nn.Sequential(nn.Conv2d(3, 8, 1), nn.Tanh()),
    "the model has several last linear maps (dist, head)": TwoHeads(),
    "its last linear map belongs to no layer": Functional(),
}


@pytest.mark.parametrize("layer", AUTOMATIC)
def test_the_classifiers_input_is_found(layer: str) -> None:
    net = narrow(AUTOMATIC[layer])
    assert found(net) == (layer, "input of the last linear map before the class scores")
    tap, expected = find_encoder_output(net, X), {}
    with net.get_submodule(layer.removesuffix(":in")).register_forward_pre_hook(lambda _, a: expected.update(t=a[0])):
        net(X)
    assert torch.equal(tap(X), expected["t"])


@pytest.mark.parametrize("reason", NO_CLASSIFIER)
def test_the_output_is_taken_where_there_is_no_classifier(reason: str) -> None:
    net = narrow(NO_CLASSIFIER[reason])
    assert found(net) == ("output", f"output: {reason}")
    assert torch.equal(find_encoder_output(net, X)(X), net(X))


def test_what_is_no_classifier_has_its_output() -> None:
    body = [*features(), *POOLED]
    assert found(narrow(nn.Sequential(*body, nn.Linear(6, 5))))[0] == "4:in"
    assert found(narrow(nn.Sequential(*body, nn.Linear(6, 5), nn.ReLU())))[0] == "output"
    assert found(narrow(nn.Sequential(*body, nn.Linear(6, 5), nn.LayerNorm(5))))[0] == "output"
    assert found(narrow(nn.Sequential(*features(), nn.Conv2d(6, 5, 8), nn.Flatten())))[0] == "output"
    assert found(narrow(SqueezeExcite()))[0] == "output"


def test_a_lone_linear_map_is_no_classifier() -> None:
    assert found(narrow(nn.Sequential(nn.Flatten(), nn.Linear(192, 5))))[0] == "output"


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_classifier_with_normalised_weights_is_found() -> None:
    for normalise in (
        nn.utils.weight_norm,
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
    ):
        net = nn.Sequential(OrderedDict(body=nn.Sequential(*features(), *POOLED), head=normalise(nn.Linear(6, 3))))
        assert found(narrow(net))[0] == "head:in"


def test_auto_and_nothing_mean_found() -> None:
    assert found(narrow(Residual()), "auto") == found(narrow(Residual()), "") == found(narrow(Residual()))


# --- named


def test_names_sides_globs_and_output() -> None:
    net = narrow(Residual())
    assert found(net, "bn1") == ("bn1", "--layer bn1")
    assert found(net, "bn1:out") == ("bn1", "--layer bn1:out")
    assert found(net, "fc:in") == ("fc:in", "--layer fc:in")
    assert found(net, "output") == ("output", "--layer output")
    assert found(net, "bn*") == ("bn2", "--layer bn* (the last of 3 executed layers that match)")
    assert found(net, "*:in") == ("fc:in", "--layer *:in (the last of 9 executed layers that match)")
    # a container finishes after its parts
    assert found(narrow(nn.Sequential(OrderedDict(body=nn.Sequential(*features())))), "body*")[0] == "body"


def test_a_tap_gives_the_named_tensor() -> None:
    net = narrow(Residual())
    bn0 = find_encoder_output(net, X, "bn0")
    want = net.bn0(net.stem(X))
    # the ReLU after it works in place
    torch.testing.assert_close(bn0(X), want)
    torch.testing.assert_close(find_encoder_output(net, X, "bn0:in")(X), net.stem(X))
    assert isinstance(bn0, Tap)
    assert bn0.module is net


def test_a_layer_called_several_times_is_tapped_at_its_last_call() -> None:
    net = narrow(Residual())
    layer, found_by = found(net, "relu")
    assert (layer, found_by) == ("relu", "--layer relu (the last of its 3 calls)")
    tap, calls = find_encoder_output(net, X, "relu"), []
    with net.relu.register_forward_hook(lambda _, args, value: calls.append(value.clone())):
        net(X)
        assert torch.equal(tap(X), calls[2])


def test_what_happens_in_place_after_the_last_call_does_not_show() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(self.a(x)).relu_()

    net = narrow(Net())
    tap = find_encoder_output(net, X, "a")
    assert float(tap(X).detach().min()) < 0
    torch.testing.assert_close(tap(X), net.a(net.a(X)))


def test_a_name_may_look_like_a_glob() -> None:
    net = narrow(nn.Sequential(OrderedDict({"a[1]": nn.Conv2d(3, 2, 1), "a1": nn.ReLU()})))
    assert found(net, "a[1]") == ("a[1]", "--layer a[1]")
    assert found(net, "a[12]") == ("a1", "--layer a[12]")


def test_the_forward_pass_ends_at_the_layer() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.ran = nn.Conv2d(3, 2, 1), []

        def forward(self, x: Tensor) -> Tensor:
            try:
                x = self.a(x)
            except Exception:  # the end of the pass is no error of the model's
                self.ran.append("caught")
            self.ran.append("after")
            return x

    net = Net()
    tap = find_encoder_output(net, X, "a")
    net.ran.clear()
    tap(X)
    assert net.ran == []


def test_hooks_go_also_after_an_error() -> None:
    net = narrow(Residual())
    tap = find_encoder_output(net, X, "fc:in")
    with pytest.raises(RuntimeError):
        tap(X[:, :2])
    assert not net.fc._forward_pre_hooks
    assert not net.fc._forward_hooks


def test_a_typo_suggests() -> None:
    net = narrow(
        nn.Sequential(OrderedDict(layer4=nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 2, 1))), fc=nn.Flatten()))
    )
    for typed, near in (
        ("layr4", "layer4"),
        ("fcc:in", "fc:in"),
        ("conv1", "layer4.conv1"),
        ("layer4.conv", "layer4.conv1"),
    ):
        with pytest.raises(NotFoundError) as caught:
            find_encoder_output(net, X, typed)
        assert caught.value.message == f"the model has no layer {typed!r}"
        assert caught.value.hint.startswith(f"did you mean {near}")
        assert caught.value.hint.endswith("? `space.layers(model)` lists them")
    with pytest.raises(NotFoundError) as caught:
        find_encoder_output(net, X, "zzz*")
    layers = "it has layer4, fc, output, and layers below these"
    assert caught.value.hint == f"{layers}; `space.layers(model)` lists them"


def test_a_layer_that_does_not_run_is_told_apart_from_a_typo() -> None:
    net = narrow(Residual())
    net.unused = nn.Linear(2, 2)
    with pytest.raises(
        NotFoundError, match="layer 'unused' is in the model, but the forward pass does not run through it"
    ):
        find_encoder_output(net, X, "unused")


def test_a_tap_that_is_not_reached_later_says_so() -> None:
    class Fickle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.skip = nn.Conv2d(3, 2, 1), False

        def forward(self, x: Tensor) -> Tensor:
            return x if self.skip else self.a(x)

    net = Fickle()
    tap = find_encoder_output(net, X, "a")
    net.skip = True
    with pytest.raises(EmbeddingError, match="the forward pass did not reach layer 'a'"):
        tap(X)


def test_a_layer_of_two_names_answers_to_both() -> None:
    shared = nn.Conv2d(3, 3, 1)
    net = narrow(nn.Sequential(OrderedDict(first=shared, act=nn.ReLU(), second=shared)))
    assert found(net, "second") == ("first", "--layer second (the last of its 2 calls)")


# --- the list


def test_the_executed_layers_are_listed_in_order() -> None:
    net = narrow(Residual())
    net.unused = nn.Linear(2, 2)
    rows = executed_layers(net, X)
    assert [row.name for row in rows] == ["stem", "bn0", "relu", "pool", "a", "bn1", "b", "bn2", "fc", "output"]
    assert rows[0] == LayerRow("stem", "Conv2d", (6, 8, 8), 162, 1)
    assert rows[2] == LayerRow("relu", "ReLU", (6, 4, 4), 0, 3)
    assert rows[-1] == LayerRow("output", "Residual", (4,), sum(p.numel() for p in net.parameters()), 1)
    nested = executed_layers(narrow(nn.Sequential(nn.Sequential(*features()), *POOLED)), X)
    assert [row.name for row in nested] == ["0", "0.0", "0.1", "1", "2", "output"]


@pytest.mark.first(7)
@pytest.mark.parametrize("name", NETS)
def test_every_listed_layer_can_be_tapped_and_attributed(name: str) -> None:
    net = build(NETS[name])
    x = images(2)
    for row in executed_layers(net, x):
        tap = find_encoder_output(net, x, row.name)
        with torch.no_grad():
            assert tap(x.clone()).shape == (2, *row.shape)
        if row.name not in ("norm", "n1", "n2"):  # after a normaliser the sum may be constant
            assert attribute(tap, x, ["saliency"]).maps["saliency"].shape == x.shape


def test_layers_that_run_fused_without_gradients_are_listed() -> None:
    net = narrow(nn.Sequential(nn.Flatten(2), nn.TransformerEncoderLayer(64, 2, 16, batch_first=True)))
    assert "1.linear2" in [row.name for row in executed_layers(net, X)]
    with torch.no_grad():
        assert find_encoder_output(net, X, "1.linear2")(X.requires_grad_(False)).shape == (2, 3, 64)


def test_a_failing_forward_pass_is_explained() -> None:
    for call in (find_encoder_output, executed_layers):
        with pytest.raises(EmbeddingError, match=r"the forward pass fails on an input of \(2, 3, 8, 8\) float32: "):
            call(nn.Conv2d(5, 2, 1), X)


# --- wrappers and outputs


def test_wrappers_are_taken_off() -> None:
    net = narrow(Residual())

    class OptimizedModule(nn.Module):
        """Like that of torch.compile, which takes a second to import."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self._orig_mod = inner

        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("the compiled code ran")

    wrapped = nn.DataParallel(OptimizedModule(net))
    assert unwrap(wrapped) is net
    tap = find_encoder_output(wrapped, X)
    assert (tap.layer, tap.module) == ("fc:in", net)
    assert executed_layers(wrapped, X) == executed_layers(net, X)


@pytest.mark.wide
def test_a_model_of_torch_compile_is_taken_off() -> None:
    net = narrow(Residual())
    assert unwrap(torch.compile(net)) is net


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_model_has_only_its_output() -> None:
    net = torch.jit.script(narrow(nn.Sequential(*features(), *POOLED, nn.Linear(6, 3))))
    assert found(net) == ("output", "output: a scripted model has no layers to choose from")
    assert [row.name for row in executed_layers(net, X)] == ["output"]
    with pytest.raises(NotFoundError, match="does not run through it"):
        find_encoder_output(net, X, "4")
    tap = find_encoder_output(net, X)
    with pytest.raises(EmbeddingError, match="scripted or traced model"):
        attribute(tap, X, ["epsilon_lrp"])


@dataclass
class Output:
    loss: None
    hidden: Tensor
    logits: Tensor


class Dictionary(OrderedDict):
    """Like ModelOutput of transformers: entries and attributes."""


def test_the_first_tensor_of_an_output() -> None:
    a, b = torch.zeros(2, 1), torch.ones(2, 1)
    assert first_tensor(a) is a
    assert first_tensor((a, b)) is a
    assert first_tensor([a, b]) is b  # feature maps: the deepest
    assert first_tensor({"aux": a, "out": b}) is b
    assert first_tensor({"odd": a}) is a
    assert first_tensor(Dictionary(past=None, last_hidden_state=a, pooler_output=b)) is b
    assert first_tensor(Output(None, a, b)) is b
    assert first_tensor((None, ([], {"x": b}))) is b
    assert first_tensor(torch.max(torch.randn(2, 3), 1)).dtype == torch.float32  # a named tuple of torch's
    with pytest.raises(EmbeddingError, match="the layer gives dict, in which there is no tensor"):
        first_tensor({"a": None})


class Rich(nn.Module):
    """A transformers-like classifier: keyword arguments inside, a dataclass out."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.classifier = nn.Linear(192, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Output:
        hidden = torch.relu(self.body(input=x.flatten(1)))
        return Output(None, hidden, self.classifier(input=hidden))


def test_a_model_with_a_rich_output() -> None:
    net = narrow(Rich())
    assert found(net)[0] == "classifier:in"
    assert find_encoder_output(net, X)(X).shape == (2, 8)
    assert find_encoder_output(net, X, "output")(X).shape == (2, 3)
    assert executed_layers(net, X)[-1].shape == (3,)


@pytest.mark.parametrize(
    ("choice", "text", "message"),
    [
        (LayerChoice("fc:in"), "--layer fc:in", "`layer='fc:in'`"),
        (
            LayerChoice("bn*", ("the last of 3 executed layers that match", "the last of its 2 calls")),
            "--layer bn* (the last of 3 executed layers that match) (the last of its 2 calls)",
            "`layer='bn*'` (the last of 3 executed layers that match) (the last of its 2 calls)",
        ),
        (LayerChoice("odd (name)"), "--layer odd (name)", "`layer='odd (name)'`"),
        (LayerChoice(None, ("stated by zoo",)), "stated by zoo", "stated by zoo"),
        (LayerChoice(None, ("output: not a classifier (2 inputs)",)), "output: not a classifier (2 inputs)", None),
        (LayerChoice(), "", ""),
    ],
)
def test_how_a_layer_was_chosen_is_stored_as_text_and_read_again(choice, text, message):
    assert str(choice) == text
    assert LayerChoice.from_text(text) == choice
    assert choice.in_message == (text if message is None else message)
    assert choice.given == (choice.pattern is not None)


def test_a_layer_that_was_named_is_told_from_one_that_was_found():
    net = narrow(Residual())
    named = LayerChoice.from_text(find_encoder_output(net, X, "bn*").found_by)
    assert (named.given, named.pattern) == (True, "bn*")
    assert not LayerChoice.from_text(find_encoder_output(net, X).found_by).given


def test_every_text_of_the_shipped_registry_is_read_and_written_again():
    from pathlib import Path

    from modelspace.workspace import ModelSpace

    texts = {model.layer_found_by for model in ModelSpace(Path(__file__).parents[2]).list()}
    assert texts
    assert {str(LayerChoice.from_text(text)) for text in texts} == texts
