"""Foundation patchers: saved, loaded, published, frozen behind any forecaster."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from adaptivepatch import (
    FixedPatcher,
    Forecaster,
    PatcherCard,
    RandomPatcher,
    Trainer,
    TrainingData,
    TransformerBackbone,
    load_patcher,
    segment,
)
from adaptivepatch.errors import (
    InvalidFrameError,
    InvalidModelError,
    InvalidParameterError,
    OutputError,
    OutputExistsError,
)
from adaptivepatch.network import build_network
from adaptivepatch.nn.policies.group_policy_gradient import GroupPolicyGradient
from adaptivepatch.patchers.base import Patcher
from adaptivepatch.patchers.hierarchical import HierarchicalPatcher
from adaptivepatch.patchers.reinpatch import ReinPatcher
from adaptivepatch.pretrained import frozen_parts, weights_digest
from adaptivepatch.training.losses import make_loss
from adaptivepatch.training.sampler import Batch
from adaptivepatch.training.step import TrainingStep


def wild(**parameters):
    """A policy whose mode is not its reference."""
    patcher = ReinPatcher(**{"compression_rate": 8.0, "prior": 0.0, **parameters})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in patcher.boundary_network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return patcher


def frame(n=400, seed=0, **columns):
    rng = np.random.default_rng(seed)
    index = pd.date_range("2024-01-01", periods=n, freq="h")
    data = {"load": rng.normal(size=n).cumsum(), "heat": rng.normal(size=n)}
    return pd.DataFrame(data | columns, index=index)


def small(patcher, **more):
    settings = {
        "horizon": 8,
        "context_length": 48,
        "backbone": TransformerBackbone(d_model=8, num_layers=1),
        "trainer": Trainer(max_steps=6, validate_every=2),
        "random_state": 0,
        **more,
    }
    return Forecaster(patcher=patcher, **settings)


def modes(patcher, num_steps=48):
    rows = torch.randn(6, num_steps, generator=torch.Generator().manual_seed(1))
    return patcher.eval()(rows).mode.boundary_mask


DATA = TrainingData("mine", "CC0 | (own)", "a place", "ab" * 32, 3, 1000)
CARD = PatcherCard([DATA], "adaptivepatch pretrain-patcher mine", ["Seen: mine."], [{"step": 1}])

# ------------------------------------------------------------------------------- saving, loading


def test_a_loaded_patcher_segments_as_the_saved_one(tmp_path):
    patcher = wild(gradient=GroupPolicyGradient(num_samples=3, reward="log_loss"))
    assert patcher.save_pretrained(tmp_path / "p", CARD) == tmp_path / "p"
    loaded = load_patcher(tmp_path / "p")
    assert isinstance(loaded, ReinPatcher)
    assert loaded.is_frozen
    assert loaded.gradient.get_params() == patcher.gradient.get_params()
    assert not torch.equal(modes(loaded), modes(ReinPatcher(compression_rate=8.0)))
    assert torch.equal(modes(loaded), modes(patcher))


def test_the_folder_has_the_layout_of_the_hub(tmp_path):
    wild().save_pretrained(tmp_path, CARD)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (config["kind"], config["library_name"]) == ("patcher", "adaptivepatch")
    assert config["patcher"]["name"] == "reinpatch"
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: apache-2.0\nlibrary_name: adaptivepatch\n")
    for part in ("CC0 \\| (own)", "a place", "ab" * 32, "pretrain-patcher mine", "Seen: mine."):
        assert part in card
    from adaptivepatch import __version__

    assert __version__ in card
    assert CARD.date in card


def test_a_card_stays_with_its_patcher(tmp_path):
    patcher = wild()
    patcher.save_pretrained(tmp_path / "a", CARD)
    load_patcher(tmp_path / "a").save_pretrained(tmp_path / "b")
    cards = [(tmp_path / f / "README.md").read_text(encoding="utf-8") for f in "ab"]
    assert cards[0] == cards[1]
    patcher.save_pretrained(tmp_path / "c")
    assert "Not stated." in (tmp_path / "c" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(TypeError, match="must be a PatcherCard"):
        patcher.save_pretrained(tmp_path / "d", "text")


def test_a_patcher_is_not_replaced_without_overwrite(tmp_path):
    FixedPatcher().save_pretrained(tmp_path)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        FixedPatcher().save_pretrained(tmp_path)
    FixedPatcher(8).save_pretrained(tmp_path, overwrite=True)
    assert load_patcher(tmp_path).patch_length == 8


def test_rates_and_look_backs_may_change(tmp_path):
    wild().save_pretrained(tmp_path)
    for rate in (8, 16, 48):
        patcher = load_patcher(tmp_path, compression_rate=rate)
        for num_steps in (96, 480):
            assert modes(patcher, num_steps).sum(1).tolist() == [num_steps // rate] * 6
    gradient = GroupPolicyGradient(num_samples=7)
    assert load_patcher(tmp_path, gradient=gradient).gradient.num_samples == 7


def test_what_the_weights_depend_on_may_not_change(tmp_path):
    wild().save_pretrained(tmp_path)
    with pytest.raises(InvalidParameterError, match="weights do not fit.*width=4"):
        load_patcher(tmp_path, width=4)
    with pytest.raises(InvalidParameterError, match=r"Did you mean 'compression_rate'"):
        load_patcher(tmp_path, compresion_rate=4)


def test_a_patcher_that_is_not_frozen_can_be_trained(tmp_path):
    wild().freeze().save_pretrained(tmp_path)
    loaded = load_patcher(tmp_path, frozen=False)
    assert not loaded.is_frozen
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_from_pretrained_checks_the_class(tmp_path):
    wild().save_pretrained(tmp_path)
    assert isinstance(ReinPatcher.from_pretrained(tmp_path, frozen=False), ReinPatcher)
    assert Patcher.from_pretrained(tmp_path).is_frozen
    with pytest.raises(InvalidModelError, match="holds a ReinPatcher, not a FixedPatcher"):
        FixedPatcher.from_pretrained(tmp_path)


class OwnPatcher(FixedPatcher):
    name = "own_fixed"


def test_a_class_of_ones_own_is_built_only_if_given(tmp_path):
    OwnPatcher(6).save_pretrained(tmp_path)
    with pytest.raises(InvalidModelError, match="Unknown patcher 'own_fixed'"):
        load_patcher(tmp_path)
    assert isinstance(load_patcher(tmp_path, classes=[OwnPatcher]), OwnPatcher)
    assert OwnPatcher.from_pretrained(tmp_path).patch_length == 6


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c.update(kind="forecaster"), "does not hold a saved 'patcher'"),
        (lambda c: c.update(format=99), "reads only formats up to"),
        (lambda c: c.pop("patcher"), "not written by save_pretrained"),
        (lambda c: c["patcher"].update(name="os.system"), "Unknown patcher 'os.system'"),
        (lambda c: c["patcher"]["parameters"].update(width=4), "do not fit its config.json"),
        (lambda c: c["patcher"]["parameters"].update(nonsense=1), "not written by save_pretrained"),
    ],
)
def test_damaged_folders_are_refused(tmp_path, damage, message):
    wild().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    damage(config)
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InvalidModelError, match=message):
        load_patcher(tmp_path)


def test_pickles_are_never_read(tmp_path):
    wild().save_pretrained(tmp_path)
    torch.save({"a": 1}, tmp_path / "model.safetensors")
    with pytest.raises(InvalidModelError, match="not a safetensors file"):
        load_patcher(tmp_path)


def test_names_that_are_nothing_are_refused(tmp_path):
    with pytest.raises(InvalidModelError, match="'nothing' is neither"):
        load_patcher("nothing")
    with pytest.raises(InvalidModelError, match=r"config.json.* does not exist"):
        load_patcher(tmp_path / "nothing")
    with pytest.raises(TypeError, match="str or Path"):
        load_patcher(3)


# ------------------------------------------------------------------------------------------- hub


class Hub:
    """The Hub as a folder."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def create_repo(self, repository, private, exist_ok):
        assert exist_ok
        (self.folder / repository).mkdir(parents=True, exist_ok=True)

    def upload_folder(self, repo_id, folder_path, commit_message, allow_patterns):
        for name in allow_patterns:
            content = (Path(folder_path) / name).read_bytes()
            (self.folder / repo_id / name).write_bytes(content)
        return f"https://hub/{repo_id}/commit/1"

    def snapshot_download(self, repository, revision, allow_patterns):
        if not (self.folder / repository).is_dir():
            raise OSError("404: no such\nrepository")
        return str(self.folder / repository)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda token: hub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    monkeypatch.chdir(tmp_path)
    return hub


def test_a_patcher_goes_to_the_hub_and_comes_back(hub):
    patcher = wild()
    assert patcher.push_to_hub("me/patcher", CARD) == "https://hub/me/patcher/commit/1"
    loaded = load_patcher("me/patcher", compression_rate=12)
    assert weights_digest(loaded) == weights_digest(patcher)
    assert torch.equal(modes(ReinPatcher.from_pretrained("me/patcher")), modes(patcher))


@pytest.mark.parametrize("make", [str, Path])
def test_a_revision_is_of_the_hub_only(hub, make):
    wild().save_pretrained("here")
    for path in (make("here"), "reinpatch-small"):
        with pytest.raises(InvalidParameterError, match="'main' for .*, which is on this machine"):
            load_patcher(path, revision="main")
    wild().push_to_hub("me/patcher", CARD)
    load_patcher("me/patcher", revision="main")


def test_troubles_of_the_hub_are_said_in_one_line(hub, monkeypatch):
    with pytest.raises(
        InvalidModelError,
        match="Hugging Face Hub failed: 404: no such repository",
    ):
        load_patcher("me/absent")

    def refuse(*args, **options):
        raise OSError("401")

    monkeypatch.setattr(Hub, "create_repo", refuse)
    with pytest.raises(OutputError, match="Publishing to 'me/patcher' failed: 401"):
        wild().push_to_hub("me/patcher")


# ---------------------------------------------------------------------------------------- frozen


def test_a_frozen_patcher_trains_on_its_mode_without_drawing():
    for patcher in (wild().freeze(), RandomPatcher(compression_rate=8).freeze()):
        assert clone(patcher) is patcher
        assert patcher.plan(0.5).num_samples == 0
        network = build_network(
            patcher, TransformerBackbone(d_model=8, num_layers=1), context_length=48, horizon=8
        )
        rows = torch.randn(5, 56, generator=torch.Generator().manual_seed(2))
        batch = Batch(rows[:, :48], None, rows[:, 48:], None, None)
        generator = torch.Generator().manual_seed(3)
        before = generator.get_state()
        output = TrainingStep(network.train(), make_loss("mse"))(batch, generator, 0.5)
        assert torch.equal(generator.get_state(), before)
        assert output.auxiliary_loss == 0
        output.loss.backward()
        assert all(parameter.grad is None for parameter in patcher.parameters())


def test_only_the_backbone_is_trained(tmp_path):
    patcher = wild().freeze()
    digest = weights_digest(patcher)
    model = small(patcher).fit(frame())
    assert weights_digest(patcher) == digest
    assert weights_digest(model.network_.patcher) == digest
    trained = {name for name, p in model.network_.named_parameters() if p.requires_grad}
    assert trained
    assert not any(name.startswith("patcher.") for name in trained)


def test_a_model_moves_without_its_patcher():
    """Device and type of a model must not change what other models share."""
    patcher = wild().freeze()
    model = small(patcher, trainer=Trainer(max_steps=2, precision="float64")).fit(frame())
    assert next(model.network_.parameters()).dtype == torch.float64
    assert next(patcher.parameters()).dtype == torch.float32
    assert np.isfinite(small(patcher).fit(frame()).predict()["prediction"]).all()


def test_parameters_of_a_frozen_patcher_stay():
    patcher = wild().freeze()
    with pytest.raises(InvalidParameterError, match="shared by everything"):
        small(patcher).set_params(patcher__compression_rate=4.0)
    assert patcher.compression_rate == 8.0


@pytest.mark.parametrize("nested", [False, True], ids=["whole", "one level"])
def test_a_saved_forecaster_knows_that_its_patcher_was_frozen(tmp_path, nested):
    inner = wild(compression_rate=4.0).freeze()
    patcher = HierarchicalPatcher(inner, FixedPatcher(compression_rate=2)) if nested else inner
    model = small(patcher).fit(frame())
    model.save(tmp_path / "m")
    loaded = Forecaster.load(tmp_path / "m")
    (part,) = frozen_parts(loaded.patcher)
    assert weights_digest(part) == weights_digest(inner)
    (part,) = frozen_parts(loaded.network_.patcher)
    assert weights_digest(part) == weights_digest(inner)
    pd.testing.assert_frame_equal(loaded.predict(), model.predict())
    again = loaded.fit(frame())
    pd.testing.assert_frame_equal(again.predict(), model.predict())


def test_a_forecaster_with_a_patcher_that_learns_is_loaded_so(tmp_path):
    small(ReinPatcher(8.0)).fit(frame()).save(tmp_path / "m")
    loaded = Forecaster.load(tmp_path / "m")
    assert not loaded.patcher.is_frozen
    assert not loaded.network_.patcher.is_frozen


def test_a_fit_goes_on_with_the_frozen_patcher_it_began_with(tmp_path):
    first = small(wild().freeze())
    whole = first.fit(frame(), checkpoint=tmp_path / "c").predict()
    pd.testing.assert_frame_equal(first.fit(frame(), resume=tmp_path / "c").predict(), whole)
    other = small(ReinPatcher(compression_rate=8.0, prior=0.0).freeze())
    with pytest.raises(InvalidParameterError, match="frozen weights was"):
        other.fit(frame(), resume=tmp_path / "c")


def test_fine_tuning_keeps_the_frozen_patcher(tmp_path):
    patcher = wild().freeze()
    digest = weights_digest(patcher)
    model = small(patcher).fit(frame())
    tuned = small(patcher).fit(frame(seed=1), init=model)
    assert weights_digest(tuned.network_.patcher) == digest
    other = ReinPatcher(compression_rate=8.0, prior=0.0).freeze()
    with pytest.raises(InvalidParameterError, match="same frozen patcher"):
        small(other).fit(frame(), init=model)


# --------------------------------------------------------------------------------------- segment


def test_segment_shows_what_a_forecaster_shows():
    data = frame()
    patcher = wild().freeze()
    shown = segment(patcher, data, context_length=48)
    fitted = small(patcher).fit(data).segment()  # scaled by all rows there, by its own here
    pd.testing.assert_frame_equal(shown, fitted, rtol=1e-3)
    assert shown.columns.tolist() == [
        *("item_id", "target_name", "patch", "start", "end", "length", "boundary_prob"),
    ]
    assert len(set(shown["length"])) > 1


def test_segment_reads_arrays_long_frames_and_gaps():
    patcher = wild().freeze()
    data = frame()
    array = segment(patcher, data.to_numpy().T, 48)
    wide = segment(patcher, data, 48)
    assert array.item_id.unique().tolist() == [0, 1]
    expected = [wide.length[wide.target_name == name].tolist() for name in ("load", "heat")]
    assert [array.length[array.item_id == i].tolist() for i in (0, 1)] == expected
    assert segment(patcher, data["load"].to_numpy(), 48).length.tolist() == expected[0]
    data.iloc[-20:-10, 0] = np.nan
    gaps = segment(patcher, data, 48)
    assert gaps[gaps.target_name == "load"].length.sum() == 48
    short = segment(patcher, data.iloc[-30:], 48)
    assert short[short.target_name == "heat"].length.sum() == 30


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_segment_does_not_depend_on_the_scale(scale):
    patcher = wild().freeze()
    plain = segment(patcher, frame(), 48)
    pd.testing.assert_frame_equal(segment(patcher, 5 * scale + scale * frame(), 48), plain)


def test_segment_may_share_patches_between_channels():
    table = segment(wild().freeze(), frame(), 48, share_segmentation=True)
    load, heat = (table[table.target_name == n].length.tolist() for n in ("load", "heat"))
    assert load == heat


def test_segment_leaves_the_patcher_as_it_was():
    patcher = wild().train()
    segment(patcher, frame(), 48)
    assert patcher.training


def test_segment_refuses_what_is_no_series():
    with pytest.raises(TypeError, match="Patcher instance"):
        segment("fixed", frame())
    with pytest.raises(InvalidFrameError, match=r"\(series, steps\)"):
        segment(FixedPatcher(), np.zeros((2, 3, 4)))
    with pytest.raises(InvalidFrameError, match="A segmentation needs 2 observed look-back points"):
        segment(FixedPatcher(), [1.0, np.nan, np.nan])
    with pytest.raises(InvalidParameterError, match="context_length"):
        segment(FixedPatcher(), frame(), 1)
