"""Semi-Markov policy: K patches of limited length.

Reference: S. Sarawagi, W. W. Cohen, "Semi-Markov Conditional Random Fields for Information
Extraction", NIPS 2004.

Tensor suffixes: N rows, C sites, J = C + 2 nodes (step 0, the sites, the end T), G samples, K
patches, D predecessors of a node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from adaptivepatch.errors import InvalidParameterError
from adaptivepatch.nn.policies.subsets import SubsetPolicy, with_gradient

Choice = Callable[[int, Tensor, Tensor], Tensor]
"""Maps a number of edges, predecessors (G, N, D) and their mask (G, N, D) to choices (G, N)."""


class Segmental(SubsetPolicy):
    """Policy over segmentations into exactly (or at most) K patches of limited length.

    Parameters
    ----------
    logits : Tensor of shape (N, C)
        Log-weights of starts at the sites; with exactly K patches only their differences matter.
    positions : sequence of int
        Steps of the C sites, increasing, from 1 to T - 1.
    num_steps, num_patches : int
        Length T of the look-back and number K of patches.
    lengths : tuple of int
        Minimum and maximum patch length, in time steps.
    at_most : bool, default=False
        Whether fewer than K patches are allowed.

    Raises
    ------
    InvalidParameterError
        If the minimum length exceeds the maximum, or, when the policy is used, if no segmentation
        at these sites satisfies the limits.

    Notes
    -----
    A segmentation is a path of K edges from step 0 through K - 1 sites to the end; an edge joins
    nodes at an allowed distance. The weight of a path is the product of exp(logit) at its sites:
    log p = sum of logits - log Z. Z, marginals and samples come from the forward recursion
    ``a_k = (a_{k-1} v) A``, with weights v and the 0/1 matrix A of edges, and from the reverse
    recursion. Both are computed as matrix products in float64 with one scale per row. The entries
    of A are multiplied by a tilt, exp(-c length). Since the lengths of a path sum to T, the tilt
    cancels, but it concentrates the recursion on paths that end at T. If linear space underflows
    nevertheless, the recursion is repeated in log space.
    """

    def __init__(
        self,
        logits: Tensor,
        positions: Sequence[int],
        num_steps: int,
        num_patches: int,
        lengths: tuple[int, int],
        at_most: bool = False,
    ) -> None:
        if lengths[0] > lengths[1]:
            raise InvalidParameterError(
                f"min_length={lengths[0]} exceeds max_length={lengths[1]} (one of them may be the "
                "default). Set both.",
                parameter="min_length",
            )
        self.logits, self.num_patches, self.at_most = logits, num_patches, at_most
        device = logits.device
        self.nodes = torch.tensor([0, *positions, num_steps], device=device)
        distance = self.nodes[None, :] - self.nodes[:, None]
        self.edges = (distance >= lengths[0]) & (distance <= lengths[1])  # (from, to)
        self.tilt = _tilt(num_steps / num_patches, *lengths)
        self.weights = F.pad(logits.detach().double(), (1, 1))  # 0 at both ends, (N, J)
        self.lengths = lengths

    # ------------------------------------------------------------------ recursions

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor]:
        """Log-weights (K + 1, N, J) of paths of k edges to each node, and of paths to the end."""
        forward, backward = self._linear(), self._linear(reverse=True)
        if self._underflows(forward, backward):
            forward, backward = self._logarithmic(), self._logarithmic(reverse=True)
        return forward, backward

    def _linear(self, *, reverse: bool = False) -> Tensor:
        distance = (self.nodes[None, :] - self.nodes[:, None]).double()
        matrix = self.edges * (-self.tilt * distance).exp()
        tilted = self.tilt * self.nodes.double()
        if reverse:
            matrix, tilted = matrix.T, self.tilt * (self.nodes[-1] - self.nodes).double()
        largest = self.weights.amax(1, keepdim=True)  # at least 0, the weight of both ends
        weights = (self.weights - largest).exp()
        current = torch.zeros_like(weights)
        current[:, -1 if reverse else 0] = 1
        scale = torch.zeros_like(largest)
        end = current.clone()
        tables = [current.log() + scale]
        for _ in range(self.num_patches):
            before = current * weights if reverse else current
            current = before @ matrix if reverse else (before @ matrix) * weights
            scale = scale + largest
            size = current.amax(1, keepdim=True)
            if reverse and self.at_most:  # a path may also end here
                unit = torch.maximum(scale + size.log(), torch.zeros_like(scale))
                current = current * (scale - unit).exp() + end * (-unit).exp()
                scale = unit
            else:
                size = torch.where(size > 0, size, 1.0)
                current, scale = current / size, scale + size.log()
            tables.append(current.log() + scale)
        ordered = tables[::-1] if reverse else tables
        return torch.stack(ordered) + tilted

    def _logarithmic(self, *, reverse: bool = False) -> Tensor:
        edges = self.edges.T if reverse else self.edges
        penalty = torch.zeros_like(edges, dtype=torch.float64).masked_fill(~edges, -torch.inf)
        current = torch.full_like(self.weights, -torch.inf)
        current[:, -1 if reverse else 0] = 0
        end, tables = current.clone(), [current]
        for _ in range(self.num_patches):
            before = current + self.weights if reverse else current
            current = torch.stack([(before + column).logsumexp(1) for column in penalty.T], 1)
            if not reverse:
                current = current + self.weights
            elif self.at_most:
                current = torch.logaddexp(current, end)
            tables.append(current)
        return torch.stack(tables[::-1] if reverse else tables)

    def _underflows(self, forward: Tensor, backward: Tensor) -> bool:
        """Tell whether linear space lost paths: every number of edges must give the same total.

        A total weight of zero also counts as lost; log space then decides whether a path exists.
        """
        total = self._total(forward)
        totals = (forward + backward).logsumexp(-1)
        found = totals[0] if self.at_most else totals.amin(0)
        kept = torch.isclose(found, total, rtol=1e-9, atol=1e-9) & ~torch.isneginf(total)
        return not bool(kept.all())

    def _total(self, forward: Tensor) -> Tensor:
        ends = forward[1:, :, -1]
        return ends.logsumexp(0) if self.at_most else ends[-1]

    @cached_property
    def _log_partition(self) -> Tensor:
        return self._checked(self._total(self._tables[0]))

    def _checked(self, total: Tensor) -> Tensor:
        """Return the log-weight (N,) of the paths to the end; raise an error without any path."""
        if bool(torch.isneginf(total).any()):
            raise InvalidParameterError(
                f"{self.num_patches} patches of {self.lengths[0]} to {self.lengths[1]} steps with "
                f"starts at {len(self.nodes) - 2} candidate sites cannot fill a look-back of "
                f"{int(self.nodes[-1])} steps. Lower min_length, raise max_length, or raise "
                "candidates."
            )
        return total

    # ------------------------------------------------------------------ policy

    def log_prob(self, action: Tensor) -> Tensor:
        """See `SubsetPolicy.log_prob`."""
        partition = with_gradient(self._log_partition, self.boundary_prob, self.logits)
        return torch.where(action, self.logits, 0.0).sum(-1) - partition

    @cached_property
    def boundary_prob(self) -> Tensor:
        """See `SubsetPolicy.boundary_prob`."""
        forward, backward = self._tables
        joint = forward + backward - self._log_partition[:, None]
        return joint[..., 1:-1].exp().sum(0).clamp(0, 1)

    def entropy(self) -> Tensor:
        """See `SubsetPolicy.entropy`."""
        return self._log_partition - (self.boundary_prob * self.logits.detach()).sum(1)

    @cached_property
    def _predecessors(self) -> tuple[Tensor, Tensor]:
        """Predecessors (J, D) of each node, and a mask that is False at padding."""
        first = self.edges.int().argmax(0)  # predecessors of a node are consecutive
        count = self.edges.sum(0)
        offset = torch.arange(max(1, int(count.max())), device=first.device)
        return (first[:, None] + offset).clamp(max=len(first) - 1), offset < count[:, None]

    def sample(self, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw predecessors from the end back to step 0, with the weights of the paths to them."""
        forward = self._tables[0]
        self._checked(self._total(forward))
        rows, device = len(self.weights), self.weights.device
        shape = (num_samples, rows, self.num_patches + 1)
        uniform = torch.rand(shape, dtype=torch.float64, device=device, generator=generator)
        edges_left = torch.full(shape[:2], self.num_patches, device=device)
        if self.at_most:
            share = forward[1:, :, -1].softmax(0).cumsum(0).T  # (N, K)
            edges_left = 1 + (uniform[..., -1:] * share[:, -1:] > share).sum(-1)

        def choose(k: int, before: Tensor, real: Tensor) -> Tensor:
            score = forward[k].expand(num_samples, -1, -1).gather(2, before)
            score = score.masked_fill(~real, -torch.inf)
            # The bound is needed for finished rows, which have no path.
            largest = score.amax(-1, keepdim=True).clamp(min=-1e300)
            cumulative = (score - largest).exp().cumsum(-1)
            return (uniform[..., k : k + 1] * cumulative[..., -1:] > cumulative).sum(-1)

        return self._walk_back(choose, edges_left)

    @property
    def mode(self) -> Tensor:
        """Path with the largest weight (Viterbi); ties go to fewer patches, then earlier sites."""
        total = torch.full_like(self.weights, -torch.inf)
        total[:, 0] = 0
        totals = [total]
        for _ in range(self.num_patches):
            total = self._best_before(total) + self.weights
            totals.append(total)
        ends = torch.stack(totals[1:])[:, :, -1]
        self._checked(ends.amax(0) if self.at_most else ends[-1])
        edges_left = torch.full((1, len(total)), self.num_patches, device=total.device)
        if self.at_most:
            edges_left = 1 + ends.argmax(0)[None]

        def choose(k: int, before: Tensor, real: Tensor) -> Tensor:
            score = totals[k][None].gather(2, before).masked_fill(~real, -torch.inf)
            return score.argmax(-1)

        return self._walk_back(choose, edges_left)[0]

    def _best_before(self, total: Tensor) -> Tensor:
        """Return the largest of the values (N, J) over the predecessors of each node.

        A run of n nodes is covered by two overlapping runs whose length is a power of 2. Their
        maxima are computed by doubling, in log2(D) passes instead of D.
        """
        first, count = self.edges.int().argmax(0), self.edges.sum(0)
        maxima, longest = [total], int(count.max())
        while 2 ** len(maxima) <= longest:
            width = 2 ** (len(maxima) - 1)
            shifted = F.pad(maxima[-1][:, width:], (0, width), value=-torch.inf)
            maxima.append(torch.maximum(maxima[-1], shifted))
        result = torch.full_like(total, -torch.inf)
        for power, values in enumerate(maxima):
            here = (count >= 2**power) & (count < 2 ** (power + 1))
            last = (first + count - 2**power)[here]
            result[:, here] = torch.maximum(values[:, first[here]], values[:, last])
        return result

    def _walk_back(self, choose: Choice, edges_left: Tensor) -> Tensor:
        """Follow chosen predecessors from the end to step 0; return the visited sites (G, N, C)."""
        before, real = self._predecessors
        node = torch.full_like(edges_left, len(self.nodes) - 1)
        visited = torch.zeros(
            *edges_left.shape, len(self.nodes), dtype=torch.bool, device=node.device
        )
        for k in reversed(range(self.num_patches)):
            active = k < edges_left
            options = before[node]  # (G, N, D)
            choice = choose(k, options, real[node])
            earlier = options.gather(-1, choice.clamp(max=options.shape[-1] - 1)[..., None])[..., 0]
            node = torch.where(active, earlier, node)
            visited.scatter_(2, node[..., None], True)
        return visited[..., 1:-1]


def _tilt(mean: float, shortest: int, longest: int) -> float:
    """Find the c for which lengths with weights exp(-c length) have the given mean."""
    length = torch.arange(shortest, longest + 1, dtype=torch.float64)
    high = 600 / longest  # keeps the weights within the range of float64
    low = -high
    for _ in range(80):
        middle = (low + high) / 2
        share = torch.softmax(-middle * length, 0)
        low, high = (middle, high) if float((share * length).sum()) > mean else (low, middle)
    return low
