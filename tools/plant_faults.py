"""Plant faults in copies of this tree, one at a time, and record whether a test notices each.

    python tools/plant_faults.py --out tests/planted_faults.csv
    python tools/plant_faults.py --out one.csv --only patience_off_by_one
    python tools/plant_faults.py --out earlier.csv --tree path/to/another/checkout

For each fault the tracked files with their working changes are copied to a temporary folder, one
text is replaced there, and pytest runs until the first failure: first the tests named with the
fault, then, if none fails, the rest of the default suite. A row of the CSV has the fault, its file,
whether a test failed ("yes", "no", or "stale" if the text is no longer there), that test, and the
seconds it took. Before all faults, the named tests must pass in an unchanged copy.

A fault names its file and its exact text. Another checkout may differ: if the file does not contain
the text exactly once, the package is searched for the one file that does, and then for the texts
under `earlier`. `--check` only looks for the texts, `--hints-only` runs the named tests only, and
`--known-to-pass` leaves out the run in an unchanged copy.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "adaptivepatch"
OWN_TEST = "tests/test_planted_faults.py"  # fails for every fault, as its text is gone
COLUMNS = ("fault", "file", "caught", "test", "seconds")


class Fault(NamedTuple):
    """A change of one text that some test must notice.

    Parameters
    ----------
    name : str
        Short name.
    file : str
        File below the package.
    text, changed : str
        Exact text, which occurs once in the file, and its replacement.
    hints : tuple of str
        Test files below ``tests/`` that probably notice it. A file that is elsewhere in another
        checkout is found by its name; one that is in no place is left out.
    earlier : tuple of (str, str, str)
        File, text and replacement in checkouts that word the line in another way.
    """

    name: str
    file: str
    text: str
    changed: str
    hints: tuple[str, ...]
    earlier: tuple[tuple[str, str, str], ...] = ()


class Planted(NamedTuple):
    """Where a fault goes in a certain tree."""

    file: str
    content: str


FAULTS = (
    # ----------------------------------------------------------------------- segmentation
    Fault(
        "one_boundary_too_many",
        "segmentation.py",
        "mask.scatter_(1, order[:, : capacity - 1] + 1, True)",
        "mask.scatter_(1, order[:, :capacity] + 1, True)",
        ("unit/test_segmentation.py",),
    ),
    Fault(
        "end_marks_taken_for_starts",
        "segmentation.py",
        "mask = end_mask.roll(1, dims=1)",
        "mask = end_mask.clone()",
        ("unit/test_segmentation.py",),
    ),
    Fault(
        "even_starts_rounded_down",
        "nn/policies/candidates.py",
        "(2 * k * num_steps + num_patches) // (2 * num_patches)",
        "(2 * k * num_steps) // (2 * num_patches)",
        ("unit/nn/policies/test_candidates.py", "unit/patchers/test_reinpatch.py"),
        (
            (
                "nn/candidates.py",
                "(2 * k * num_steps + num_patches) // (2 * num_patches)",
                "(2 * k * num_steps) // (2 * num_patches)",
            ),
        ),
    ),
    Fault(
        "unused_slots_hold_a_patch",
        "segmentation.py",
        "return self._expanded(self._stored_rows(self.patch_lengths) > 0)",
        "return self._expanded(self._stored_rows(self.patch_lengths) >= 0)",
        ("unit/test_segmentation.py",),
        (
            (
                "segmentation.py",
                "return self._view(self._one_row(self.patch_lengths) > 0)",
                "return self._view(self._one_row(self.patch_lengths) >= 0)",
            ),
        ),
    ),
    # ----------------------------------------------------------------------- layers and tokens
    Fault(
        "statistics_leak_across_rows",
        "nn/layers/normalization.py",
        "mean = (series * weight).sum(1, keepdim=True) / count",
        "mean = (series * weight).sum() / count.sum() * torch.ones_like(count)",
        ("unit/nn/layers/test_normalization.py",),
    ),
    Fault(
        "gaps_count_in_the_mean",
        "nn/layers/normalization.py",
        "count = weight.sum(1, keepdim=True).clamp(min=1)",
        "count = torch.full_like(weight[:, :1], weight.shape[1])",
        ("unit/nn/layers/test_normalization.py",),
        (
            (
                "nn/normalization.py",
                "count = weight.sum(1, keepdim=True).clamp(min=1)",
                "count = torch.full_like(weight[:, :1], weight.shape[1])",
            ),
        ),
    ),
    Fault(
        "gaps_interpolated_backwards",
        "nn/layers/gaps.py",
        "share = (step - left).to(series.dtype)",
        "share = (right - step).to(series.dtype)",
        ("unit/nn/layers/test_gaps.py",),
    ),
    Fault(
        "forecast_not_rescaled",
        "nn/layers/normalization.py",
        "return forecast * scale.std.view(shape) + scale.mean.view(shape)",
        "return forecast + scale.mean.view(shape)",
        ("unit/nn/layers/test_normalization.py", "unit/test_network.py"),
    ),
    Fault(
        "smoothing_runs_backwards",
        "nn/layers/scan.py",
        "before = F.pad(added[:, :-reach], (0, 0, reach, 0))",
        "before = F.pad(added[:, reach:], (0, 0, 0, reach))",
        ("unit/nn/layers/test_scan.py",),
    ),
    Fault(
        "attention_mask_ignored",
        "nn/layers/attention.py",
        "scores.masked_fill_(~mask[:, None, :], -torch.inf)",
        "scores = scores.clone()",
        ("unit/nn/layers/test_attention.py", "contracts/test_backbones.py"),
    ),
    Fault(
        "quantiles_may_cross",
        "nn/tokens/heads.py",
        "above = median + F.softplus(raw[..., middle + 1 :]).cumsum(-1)",
        "above = median + raw[..., middle + 1 :].cumsum(-1)",
        ("unit/nn/tokens/test_heads.py",),
    ),
    Fault(
        "lower_quantiles_in_reverse",
        "nn/tokens/heads.py",
        "below = median - F.softplus(raw[..., :middle]).flip(-1).cumsum(-1).flip(-1)",
        "below = median - F.softplus(raw[..., :middle]).flip(-1).cumsum(-1)",
        ("unit/nn/tokens/test_heads.py",),
    ),
    Fault(
        "overlap_in_units_of_the_patch",
        "nn/tokens/pooling.py",
        "return overlap.clamp_(min=0).div_(cell_length)",
        "return overlap.clamp_(min=0).div(end - start)",
        ("unit/nn/tokens/test_pooling.py",),
        (
            (
                "nn/pooling.py",
                "return shared.clamp_(min=0).div_(cell_length)",
                "return shared.clamp_(min=0).div(end - start)",
            ),
        ),
    ),
    Fault(
        "padding_counts_as_observed",
        "nn/tokens/pooling.py",
        "weight = counted[..., None].to(values.dtype)",
        "weight = torch.ones_like(values[..., :1])",
        ("contracts/test_core_contract.py",),
    ),
    Fault(
        "halo_off_by_one",
        "nn/tokens/patch_embedding.py",
        "length = segmentation.patch_lengths[rows] + halo",
        "length = segmentation.patch_lengths[rows] + max(0, halo - 1)",
        ("unit/nn/tokens/test_patch_embedding.py",),
    ),
    Fault(
        "unobserved_points_embedded",
        "nn/tokens/patch_embedding.py",
        "total = _sum(step, self.weight, first, series * seen)",
        "total = _sum(step, self.weight, first, series)",
        ("unit/nn/tokens/test_patch_embedding.py",),
    ),
    Fault(
        "gate_without_detach",
        "nn/tokens/chunks.py",
        "return 1 + (confidence - confidence.detach())",
        "return confidence",
        ("unit/patchers/test_dynamic_chunking.py",),
    ),
    # ----------------------------------------------------------------------- placement, policies
    Fault(
        "rate_loss_with_wrong_sign",
        "nn/placement/losses.py",
        "return logits.mean() * (logits.detach().sigmoid().mean() - share)",
        "return logits.mean() * (share - logits.detach().sigmoid().mean())",
        ("unit/nn/placement/test_losses.py", "unit/nn/test_rate_control.py"),
    ),
    Fault(
        "ratio_loss_with_wrong_sign",
        "nn/placement/losses.py",
        "((rate - 1) * found * expected + off)",
        "((rate - 1) * found * expected - off)",
        ("unit/nn/placement/test_losses.py", "unit/nn/test_rate_control.py"),
    ),
    Fault(
        "alignment_draws_to_calm_steps",
        "nn/placement/losses.py",
        "square = (1 - expected - boundary_prob",
        "square = (expected - boundary_prob",
        ("unit/nn/placement/test_losses.py", "unit/patchers/test_alignment.py"),
    ),
    Fault(
        "router_prefers_equal_neighbours",
        "nn/placement/routers.py",
        "(self.slope.abs() * (score - self.threshold)).sigmoid()",
        "(self.slope.abs() * (self.threshold - score)).sigmoid()",
        ("unit/nn/placement/test_routers.py", "unit/nn/test_chunking.py"),
    ),
    Fault(
        "group_noise_not_shared",
        "nn/placement/groups.py",
        "return noise if group is None else noise[:, group.unique(return_inverse=True)[1]]",
        "return noise",
        ("contracts/test_patchers.py",),
        (
            (
                "nn/gate_policy.py",
                "uniform = uniform[:, self.group.unique(return_inverse=True)[1]]",
                "uniform = uniform.clone()",
            ),
        ),
    ),
    Fault(
        "threshold_of_another_rank",
        "nn/placement/score_rules.py",
        "return min(max(round((1 - share) * number), 1), number)",
        "return min(max(round(share * number), 1), number)",
        ("unit/nn/placement/test_score_rules.py", "unit/patchers/test_dynamic_pooling.py"),
    ),
    Fault(
        "policy_gradient_with_wrong_sign",
        "nn/policies/group_policy_gradient.py",
        "return -(terms.mean(0) * weight).sum()",
        "return (terms.mean(0) * weight).sum()",
        ("unit/nn/policies/test_group_policy_gradient.py", "unit/nn/test_policy_gradient.py"),
    ),
    Fault(
        "leave_one_out_without_its_factor",
        "nn/policies/group_policy_gradient.py",
        "return centred * (samples / (samples - 1))",
        "return centred",
        ("unit/nn/policies/test_group_policy_gradient.py", "unit/nn/test_policy_gradient.py"),
    ),
    Fault(
        "advantage_of_the_worse",
        "nn/policies/group_policy_gradient.py",
        "return compared - error",
        "return error - compared",
        (
            "unit/nn/policies/test_group_policy_gradient.py",
            "unit/patchers/test_reinpatch.py",
            "unit/nn/test_policy_gradient.py",
        ),
    ),
    Fault(
        "window_of_decisions_off_by_one",
        "nn/policies/gates.py",
        "self.terms[:, back:, -1 - back]",
        "self.terms[:, back:, -back]",
        ("unit/nn/policies/test_gates.py", "unit/nn/test_gate_policy.py"),
    ),
    Fault(
        "gate_drawn_the_wrong_way",
        "nn/policies/gates.py",
        "uniform[..., t] < logit.sigmoid()",
        "uniform[..., t] > logit.sigmoid()",
        ("unit/nn/policies/test_gates.py", "unit/nn/test_gate_policy.py"),
    ),
    Fault(
        "most_likely_number_always_drawn",
        "nn/policies/conditional_bernoulli.py",
        "chosen = (left > 0) & (uniform[..., t] * (with_it + without) < with_it)",
        "chosen = (left > 0) & (with_it > without)",
        ("unit/nn/policies/test_subsets.py", "unit/nn/test_subset_policies.py"),
        (
            (
                "nn/conditional_bernoulli.py",
                "chosen = (left > 0) & (level[..., t] * (with_it + without) < with_it)",
                "chosen = (left > 0) & (with_it > without)",
            ),
        ),
    ),
    # ----------------------------------------------------------------------- patchers
    Fault(
        "oldest_patch_not_the_short_one",
        "patchers/fixed.py",
        "first = num_steps % stride",
        "first = 0",
        ("unit/patchers/test_fixed.py",),
    ),
    Fault(
        "lengths_grow_into_the_future",
        "nn/policies/candidates.py",
        "return [0, *(num_steps - end for end in reversed(ends[:-1]))]",
        "return [0, *ends[:-1]]",
        ("unit/patchers/test_recency.py", "unit/nn/policies/test_candidates.py"),
    ),
    Fault(
        "cycles_counted_from_the_start",
        "patchers/periodic.py",
        "return [0, *(num_steps - k * length for k in range(count - 1, 0, -1))]",
        "return [k * length for k in range(count)]",
        ("unit/patchers/test_periodic.py",),
    ),
    Fault(
        "filled_gaps_have_scores",
        "patchers/deviation.py",
        "known = seen & F.pad(seen[:, :-1], (1, 0))",
        "known = torch.ones_like(seen)",
        ("unit/patchers/test_deviation.py", "contracts/test_patchers.py"),
    ),
    Fault(
        "samples_from_the_global_generator",
        "patchers/random.py",
        "device=self.series.device, generator=generator",
        "device=self.series.device",
        ("contracts/test_patchers.py",),
    ),
    Fault(
        "unused_slots_start_coarse_patches",
        "patchers/hierarchical.py",
        "parent = _at_slots(parent, segmentation.patch_mask)",
        "parent = replace(parent, exact=False, validate=False)",
        ("unit/patchers/test_hierarchical.py",),
    ),
    Fault(
        "rollouts_share_their_groups",
        "patchers/hierarchical.py",
        "group = (group + (group.max() + 1) * rollout).flatten()",
        "group = (group + 0 * rollout).flatten()",
        ("unit/patchers/test_hierarchical.py",),
    ),
    Fault(
        "advantage_not_clipped",
        "patchers/reinpatch.py",
        "return (advantage / unit).clamp(-settings.clip, settings.clip)",
        "return advantage / unit",
        ("unit/patchers/test_reinpatch.py",),
    ),
    Fault(
        "entropy_rises_off_by_one",
        "patchers/entropy.py",
        "ticks = F.pad(ticks.diff(dim=1), (1, 0))",
        "ticks = F.pad(ticks.diff(dim=1), (0, 1))",
        ("unit/patchers/test_entropy.py",),
    ),
    Fault(
        "mode_in_place_of_a_sample",
        "patchers/dynamic_pooling.py",
        "score = (self.logits.double() + noise).flatten(0, 1)",
        "score = (self.logits.double() + 0 * noise).flatten(0, 1)",
        ("unit/patchers/test_dynamic_pooling.py",),
    ),
    # ----------------------------------------------------------------------- backbones, network
    Fault(
        "coarse_starts_are_fine_numbers",
        "backbones/multi_level.py",
        "return start_time.expand(len(first), -1).gather(1, first)",
        "return first",
        ("unit/backbones/test_multi_level.py",),
    ),
    Fault(
        "padding_keeps_a_value",
        "backbones/transformer.py",
        "return hidden if patch_mask is None else hidden * patch_mask[..., None]",
        "return hidden",
        ("contracts/test_backbones.py",),
    ),
    Fault(
        "patch_mask_ignored",
        "network.py",
        "patch_mask = None if segmentation.exact else segmentation.patch_mask",
        "patch_mask = None",
        ("unit/test_network.py", "contracts/test_patchers.py"),
    ),
    Fault(
        "halo_ignored",
        "network.py",
        "halo=self.patcher.halo,",
        "halo=0,",
        ("unit/test_patchtst_equality.py",),
    ),
    # ----------------------------------------------------------------------- training
    Fault(
        "rollouts_scored_with_dropout",
        "training/step.py",
        "        self.network.eval()\n        rows, losses",
        "        rows, losses",
        ("unit/training/test_step.py",),
    ),
    Fault(
        "rows_weigh_the_same",
        "training/losses.py",
        "weight = observed.to(row_loss.dtype).mean(1)",
        "weight = torch.ones_like(row_loss)",
        ("unit/training/test_losses.py", "unit/training/test_step.py"),
    ),
    Fault(
        "patience_off_by_one",
        "training/trainer.py",
        "self.stale >= self.trainer.patience",
        "self.stale > self.trainer.patience",
        ("unit/training/test_trainer.py",),
    ),
    Fault(
        "best_weights_not_restored",
        "training/trainer.py",
        "            self.network.load_state_dict(self.kept)\n",
        "            pass\n",
        ("unit/training/test_trainer.py", "unit/estimators/test_going_on.py"),
    ),
    Fault(
        "best_weights_go_on_training",
        "training/trainer.py",
        "self.kept, self.stale = copy.deepcopy(self.network.state_dict()), 0",
        "self.kept, self.stale = self.network.state_dict(), 0",
        ("unit/training/test_trainer.py", "unit/estimators/test_going_on.py"),
        (
            (
                "training/run.py",
                "weights = copy.deepcopy(self.network.state_dict())",
                "weights = self.network.state_dict()",
            ),
        ),
    ),
    Fault(
        "checkpoint_forgets_the_generator",
        "training/trainer.py",
        'self.rollouts.set_state(random["rollouts"])',
        "self.rollouts.get_state()",
        ("unit/estimators/test_going_on.py",),
    ),
    Fault(
        "resumed_epoch_in_another_order",
        "training/sampler.py",
        "        self.generator.set_state(epoch_state)\n        self._start_epoch()",
        "        self._start_epoch()",
        ("unit/training/test_sampler.py", "unit/estimators/test_going_on.py"),
    ),
    Fault(
        "last_batch_of_an_epoch_dropped",
        "training/sampler.py",
        "if self._position >= len(self.windows):",
        "if self._position + self.batch_size > len(self.windows):",
        ("unit/training/test_sampler.py",),
    ),
    Fault(
        "one_observed_point_is_enough",
        "training/sampler.py",
        "(seen[middle] - seen[start] >= 2)",
        "(seen[middle] - seen[start] >= 1)",
        ("unit/training/test_sampler.py",),
    ),
    Fault(
        "windows_share_their_groups",
        "training/sampler.py",
        "every = window[:, None] * (self.channel_groups.max() + 1) + self.channel_groups",
        "every = window[:, None] * 0 + self.channel_groups",
        ("unit/training/test_sampler.py",),
    ),
    Fault(
        "schedule_starts_an_epoch_late",
        "training/schedules.py",
        "math.floor(epochs) - 3",
        "math.floor(epochs) - 4",
        ("unit/training/test_schedules.py",),
    ),
    Fault(
        "progress_stands_still",
        "training/loop.py",
        "progress=done / self.total_steps,",
        "progress=0.0,",
        ("unit/training/test_trainer.py",),
        (
            (
                "training/run.py",
                "progress=done / total,",
                "progress=0.0,",
            ),
        ),
    ),
    # ----------------------------------------------------------------------- data
    Fault(
        "last_window_dropped",
        "data/windows.py",
        "last = stop - horizon - 1",
        "last = stop - horizon - 2",
        ("unit/data/test_windows.py",),
    ),
    Fault(
        "targets_of_training_are_tested",
        "data/windows.py",
        "return (self.horizon - 1) // self.stride",
        "return max(0, self.horizon - 2) // self.stride",
        ("unit/data/test_windows.py",),
    ),
    Fault(
        "stamps_of_the_forecast_a_step_early",
        "data/windows.py",
        "int(self.cutoff_row[window]) + 1",
        "int(self.cutoff_row[window])",
        ("unit/data/test_windows.py", "unit/estimators/test_forecaster.py"),
    ),
    Fault(
        "season_of_a_week",
        "data/seasons.py",
        "return max(1, round(_DAY / duration))",
        "return max(1, round(_WEEK / duration))",
        ("unit/data/test_steps.py", "unit/estimators/test_forecaster.py"),
        (
            (
                "estimators/seasons.py",
                "(pd.Timedelta(hours=1), pd.Timedelta(days=1))",
                "(pd.Timedelta(hours=1), pd.Timedelta(days=7))",
            ),
        ),
    ),
    Fault(
        "season_shifted_by_a_step",
        "data/naive.py",
        "ahead = np.arange(1, windows.horizon + 1)",
        "ahead = np.arange(windows.horizon)",
        ("unit/data/test_naive.py",),
    ),
    Fault(
        "digest_ignores_item_ids",
        "data/panel.py",
        "names = repr((self.item_ids, self.channels, self.freq, stamps))",
        "names = repr((self.channels, self.freq, stamps))",
        (
            "unit/data/test_frame.py",
            "unit/data/test_panel.py",
            "unit/estimators/test_going_on.py",
            "unit/estimators/test_forecaster.py",
        ),
        (
            (
                "estimators/resuming.py",
                "repr((panel.item_ids, panel.channels, panel.freq, stamps))",
                "repr((panel.channels, panel.freq, stamps))",
            ),
        ),
    ),
    # ----------------------------------------------------------------------- metrics
    Fault(
        "smape_by_the_truth_alone",
        "metrics.py",
        "size = np.abs(truth) + np.abs(np.asarray(prediction, dtype=np.float64))",
        "size = 2 * np.abs(truth)",
        ("unit/test_metrics.py",),
    ),
    Fault(
        "unobserved_steps_in_the_denominator",
        "metrics.py",
        "count = np.asarray(observed.sum(axis=axis), dtype=np.float64)",
        "count = np.asarray(np.ones_like(observed).sum(axis=axis), dtype=np.float64)",
        ("unit/test_metrics.py",),
    ),
    Fault(
        "bounds_do_not_cover",
        "metrics.py",
        "inside = (above >= 0) & (below <= 0)",
        "inside = (above > 0) & (below < 0)",
        ("unit/test_metrics.py",),
    ),
    Fault(
        "naive_scale_of_single_steps",
        "metrics.py",
        "np.abs(rows[season:] - rows[:-season])",
        "np.abs(rows[1:] - rows[:-1])",
        ("unit/test_metrics.py",),
    ),
    # ----------------------------------------------------------------------- estimators
    Fault(
        "scaled_by_validation_rows",
        "estimators/training_windows.py",
        "scaling = Scaling.fit(self.panel, self.panel.lengths - held_out, self.transform)",
        "scaling = Scaling.fit(self.panel, None, self.transform)",
        (
            "unit/estimators/test_separation.py",
            "unit/estimators/test_prepare.py",
            "unit/estimators/test_forecaster.py",
        ),
        (
            (
                "estimators/training_windows.py",
                "scaling = Scaling.fit(self.panel, self.panel.lengths - held_out)",
                "scaling = Scaling.fit(self.panel)",
            ),
            (
                "estimators/panel_fit.py",
                "scaling = Scaling.fit(panel, panel.lengths - held_out)",
                "scaling = Scaling.fit(panel)",
            ),
        ),
    ),
    Fault(
        "validation_targets_trained_on",
        "estimators/training_windows.py",
        "train = complete_or_padded(*shape, targets_to=border)",
        "train = complete_or_padded(*shape)",
        (
            "unit/estimators/test_separation.py",
            "unit/estimators/test_forecaster.py",
        ),
        (
            (
                "estimators/selection.py",
                "train = complete_or_padded(panel, context_length, horizon, targets_to=border)",
                "train = complete_or_padded(panel, context_length, horizon)",
            ),
        ),
    ),
    Fault(
        "channels_swapped",
        "estimators/panel_model.py",
        "scaling.inverse(by_channel.transpose(0, 2, 1, 3)",
        "scaling.inverse(by_channel[:, ::-1].transpose(0, 2, 1, 3)",
        (
            "unit/estimators/test_separation.py",
            "unit/estimators/test_forecaster.py",
        ),
    ),
    Fault(
        "transform_fitted_to_validation_rows",
        "data/panel_scaling.py",
        "training_rows = [panel.item(i)[:end] for i, end in enumerate(ends)]",
        "training_rows = [panel.item(i) for i, end in enumerate(ends)]",
        ("unit/data/test_transforms.py", "unit/estimators/test_bounds_and_transforms.py"),
    ),
    Fault(
        "forecasts_leave_the_bounds",
        "estimators/panel_model.py",
        "return clip(forecast, self.bounds)",
        "return forecast",
        ("unit/estimators/test_bounds_and_transforms.py",),
    ),
    Fault(
        "refit_on_the_selection_only",
        "estimators/fitting.py",
        "training = data.everything()",
        "training = data.selection()",
        ("unit/estimators/test_forecaster.py", "unit/estimators/test_going_on.py"),
        (
            (
                "estimators/course.py",
                "forecaster, panel, trainer, 0, seed=seed, plan=record",
                "forecaster, panel, trainer, held_out, seed=seed, plan=record",
            ),
        ),
    ),
    Fault(
        "scale_of_other_items",
        "estimators/backtest.py",
        "naive_scale=_of_items(windows.panel.item_ids, model.item_ids, naive_scale)[windows.item],",
        "naive_scale=_of_items(windows.panel.item_ids, model.item_ids, naive_scale)[windows.item"
        " * 0],",
        (
            "unit/estimators/test_separation.py",
            "unit/estimators/test_forecaster.py",
            "unit/estimators/test_data_kinds.py",
        ),
    ),
    Fault(
        "initial_weights_have_no_digest",
        "estimators/resuming.py",
        "digest.update(content_of(weights[name]))",
        "digest.update(name.encode())",
        ("unit/estimators/test_going_on.py",),
        (
            (
                "estimators/resuming.py",
                "_digest(*(init[key].numpy() for key in sorted(init)))",
                "_digest()",
            ),
        ),
    ),
    # ----------------------------------------------------------------------- comparison
    Fault(
        "bonferroni_dropped",
        "comparison/statistics.py",
        "_bounds(parts, 1 - (1 - confidence) / num_comparisons)",
        "_bounds(parts, confidence)",
        ("unit/comparison/test_statistics.py",),
        (
            (
                "bench/statistics.py",
                "level = 1 - (1 - confidence) / num_comparisons",
                "level = confidence",
            ),
        ),
    ),
    Fault(
        "blocks_of_one_horizon",
        "comparison/statistics.py",
        "np.clip(num_times // MIN_BLOCKS, horizon, LONGEST_BLOCK * horizon)",
        "np.clip(num_times // MIN_BLOCKS, horizon, horizon)",
        ("unit/comparison/test_statistics.py",),
    ),
    Fault(
        "seed_variance_too_small",
        "comparison/statistics.py",
        "np.sqrt(num_seeds / (num_seeds - 1))",
        "1.0",
        ("unit/comparison/test_statistics.py",),
    ),
    Fault(
        "half_an_interval_decides",
        "comparison/statistics.py",
        "if self.high < 0:",
        "if self.low < 0:",
        ("unit/comparison/test_statistics.py", "unit/comparison/test_compare.py"),
    ),
    Fault(
        "tokens_far_apart_count_as_equal",
        "comparison/findings.py",
        "return abs(arm.tokens / wanted.tokens - 1) <= EQUAL_TOKENS",
        "return abs(arm.tokens / wanted.tokens - 1) <= 1",
        ("unit/comparison/test_compare.py",),
        (
            (
                "bench/verdict.py",
                "/ wanted.tokens - 1) <= EQUAL_TOKENS",
                "/ wanted.tokens - 1) <= 1",
            ),
        ),
    ),
    # ----------------------------------------------------------------------- models on disk
    Fault(
        "frozen_is_forgotten",
        "model_folder.py",
        'return built.freeze() if description.get("frozen") is True else built',
        "return built",
        ("unit/test_pretrained.py", "unit/estimators/test_forecaster.py"),
    ),
    Fault(
        "models_are_overwritten",
        "model_folder.py",
        "if (folder / CONFIG).exists() and not overwrite:",
        "if False:",
        ("unit/test_pretrained.py", "unit/estimators/test_forecaster.py"),
    ),
    Fault(
        "weights_that_are_not_numbers_load",
        "model_folder.py",
        "    if broken:\n",
        "    if False:\n",
        ("bad_inputs/test_models.py",),
    ),
    Fault(
        "digest_of_names_only",
        "pretrained.py",
        "        digest.update(exact.contiguous().numpy().tobytes())\n",
        "        del exact\n",
        ("unit/test_pretrained.py", "unit/pretraining/test_pretrain.py", "unit/test_foundation.py"),
    ),
    Fault(
        "loaded_patchers_are_not_frozen",
        "pretrained.py",
        "return patcher.freeze() if frozen else patcher",
        "return patcher",
        ("unit/test_pretrained.py", "unit/test_foundation.py"),
    ),
    Fault(
        "stale_name_in_the_registry",
        "registry.py",
        '"recency": "RecencyPatcher",',
        '"recent": "RecencyPatcher",',
        ("contracts/test_patchers.py",),
        (
            (
                "patchers/recency.py",
                'name = "recency"',
                'name = "recent"',
            ),
        ),
    ),
)


def plant(fault: Fault, tree: Path) -> Planted | None:
    """Return the file that a fault changes in a tree and its new content; None if it is stale."""
    contents = {
        file.relative_to(tree / PACKAGE).as_posix(): file.read_text(encoding="utf-8")
        for file in sorted((tree / PACKAGE).rglob("*.py"))
    }
    for name, text, changed in ((fault.file, fault.text, fault.changed), *fault.earlier):
        found = [name] if text in contents.get(name, "") else []
        found = found or [file for file, content in contents.items() if text in content]
        if len(found) == 1 and contents[found[0]].count(text) == 1:
            content = contents[found[0]].replace(text, changed)
            return Planted(f"{PACKAGE}/{found[0]}", content)
    return None


def copy_tree(tree: Path, folder: Path) -> None:
    """Copy the tracked files, as they are in the working tree, and new ones that git lists."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=tree, capture_output=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        names = listed.stdout.decode().split("\0")
    else:  # an export without git
        names = [str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()]
    for name in filter(None, names):
        source = tree / name
        if source.is_file() and ".git/" not in name and not name.startswith(".venv"):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def hinted(fault: Fault, tree: Path) -> list[str]:
    """Return the test files that are named with a fault, as they are called in this tree."""
    found = []
    for hint in fault.hints:
        if (tree / "tests" / hint).is_file():
            found.append(f"tests/{hint}")
        else:
            same_name = sorted((tree / "tests").rglob(Path(hint).name))
            found += [str(path.relative_to(tree)) for path in same_name]
    return found


class Run(NamedTuple):
    """Outcome of pytest: its exit status and the first test that failed, if any."""

    status: int
    test: str
    output: str


def run_tests(folder: Path, arguments: list[str], timeout: float) -> Run:
    """Run pytest in a folder until the first failure; a timeout counts as a failure."""
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no"]
    with subprocess.Popen(
        [*command, "-rfE", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return Run(1, "timeout", "")
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, re.MULTILINE)
    return Run(process.returncode, failed[1] if failed else "", output)


def try_fault(fault: Fault, tree: Path, timeout: float, *, hints_only: bool) -> dict[str, object]:
    """Plant one fault in a copy, run the tests, and return a row of the table."""
    planted, started = plant(fault, tree), time.monotonic()
    if planted is None:
        return dict(zip(COLUMNS, (fault.name, fault.file, "stale", "", 0), strict=True))
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        folder = Path(name)
        copy_tree(tree, folder)
        (folder / planted.file).write_text(planted.content, encoding="utf-8")
        hints = hinted(fault, tree)
        run = run_tests(folder, hints, timeout) if hints else Run(5, "", "")
        if run.status in (0, 5) and not hints_only:
            rest = [f"--ignore={file}" for file in (*hints, OWN_TEST)]
            run = run_tests(folder, rest, timeout)
    caught = "no" if run.status in (0, 5) else "yes"
    test = run.test or ("collection" if caught == "yes" else "")
    seconds = round(time.monotonic() - started)
    return dict(zip(COLUMNS, (fault.name, planted.file, caught, test, seconds), strict=True))


def passes_unchanged(faults: list[Fault], tree: Path, timeout: float) -> bool:
    """Tell whether the named tests pass in an unchanged copy: else they would prove nothing."""
    hints = sorted({hint for fault in faults for hint in hinted(fault, tree)})
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        copy_tree(tree, Path(name))
        run = run_tests(Path(name), hints, timeout)
    if run.status != 0:
        print(f"Without a fault, {run.test or 'pytest'} fails:\n{run.output[-2000:]}")
    return run.status == 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="CSV to write")
    parser.add_argument("--only", action="append", help="name of a fault; may be repeated")
    parser.add_argument("--tree", type=Path, default=ROOT, help="checkout to plant faults in")
    parser.add_argument("--jobs", type=int, default=1, help="faults to try at a time")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for one pytest")
    parser.add_argument("--hints-only", action="store_true", help="run the named tests only")
    parser.add_argument("--check", action="store_true", help="only look for the texts")
    parser.add_argument(
        "--known-to-pass", action="store_true", help="skip the run in an unchanged copy"
    )
    given = parser.parse_args()
    tree = given.tree.resolve()
    unknown = set(given.only or ()) - {fault.name for fault in FAULTS}
    if unknown:
        parser.error(f"There is no fault {sorted(unknown)[0]!r}.")
    faults = [fault for fault in FAULTS if not given.only or fault.name in given.only]
    if given.check:
        stale = [fault.name for fault in faults if plant(fault, tree) is None]
        print(f"{len(faults)} faults, {len(stale)} stale: {', '.join(stale)}")
        return bool(stale)
    if given.out is None:
        parser.error("Name the file to write: --out FILE.")
    if not given.known_to_pass and not passes_unchanged(faults, tree, given.timeout):
        return 1

    def attempt(fault: Fault) -> dict[str, object]:
        row = try_fault(fault, tree, given.timeout, hints_only=given.hints_only)
        print(*row.values(), sep=", ", flush=True)
        return row

    with ThreadPoolExecutor(given.jobs) as pool:
        rows = list(pool.map(attempt, faults))
    with given.out.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    missed = [str(row["fault"]) for row in rows if row["caught"] != "yes"]
    print(f"{len(rows)} faults, {len(missed)} not caught: {', '.join(missed)}")
    return bool(missed)


if __name__ == "__main__":
    raise SystemExit(main())
