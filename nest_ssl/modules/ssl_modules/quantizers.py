"""Targets of masked-token training: the nearest entry of a random, frozen codebook."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_SCORES = 2**23  # float64 scores held at once: 64 MiB


class RandomProjectionVectorQuantizer(nn.Module):
    """Label every stack of frames with its nearest code in each of `num_books` random codebooks.

    `combine_time_steps` consecutive frames of `feat_in` features are laid end to end, projected (float32,
    no bias, Xavier) to `num_books` x `code_dim`, scaled to unit length and compared with the codes
    (num_books, num_classes, code_dim), unit vectors in float64.  `dist_fn` "l2" and "cosine" rank them
    alike; ties go to the lower index. `time_ahead` says that inputs are (B, T, D), and codes (B, T',
    code_dim, num_books), rather than (B, D, T).

    Always computed in float32 and float64, also under autocast and in a model of another precision;
    `autocast` true lets autocast have the projection, as NeMo does (in bfloat16 about 1 % other tokens).
    Source: BEST-RQ (arXiv 2202.01855), section 3.1.
    """

    def __init__(
        self,
        feat_in: int,
        code_dim: int,
        num_classes: int,
        num_books: int,
        dist_fn: str = "cosine",
        time_ahead: bool = False,
        freeze: bool = True,
        squeeze_single: bool = False,
        combine_time_steps: int = 1,
        autocast: bool = False,
    ) -> None:
        super().__init__()
        if dist_fn not in ("l2", "cosine"):
            raise ValueError(f"dist_fn: {dist_fn!r} is not l2 or cosine")
        self.feat_in, self.code_dim = feat_in, code_dim
        self.num_classes, self.num_books = num_classes, num_books
        self.dist_fn = dist_fn
        self.time_ahead = time_ahead
        self.squeeze_single = squeeze_single
        self.combine_time_steps = combine_time_steps
        self.autocast = autocast
        self.proj = nn.Linear(feat_in * combine_time_steps, num_books * code_dim, bias=False)
        nn.init.xavier_normal_(self.proj.weight)
        codebooks = torch.randn(num_books, num_classes, code_dim).double()
        nn.init.normal_(
            codebooks, mean=0.0, std=1.0
        )  # drawn twice, as NeMo does: the same seed, the same codes
        self.codebooks = nn.Parameter(F.normalize(codebooks, dim=-1))
        if freeze:
            self.requires_grad_(False)

    def forward(self, input_signal: Tensor) -> tuple[Tensor, Tensor]:
        """input_signal (B, D, T) -> codes (B, code_dim, T', num_books), tokens (B, T', num_books) int64.

        T' = T / combine_time_steps.  With one book and `squeeze_single` the last axis of both goes.  With
        several books the codes are NeMo's view of memory in the order (num_books, T', code_dim) as
        (T', code_dim, num_books): of use for one book only.
        """
        tokens = self.tokens(input_signal)
        batch, frames = tokens.shape[:2]
        books = torch.arange(self.num_books, device=tokens.device)
        indices = tokens.view(batch, frames, self.num_books) + books * self.num_classes
        codes = F.embedding(indices.transpose(1, 2), self.codebooks.view(-1, self.code_dim))
        codes = codes.reshape(batch, frames, self.code_dim, self.num_books)
        if self._squeezes():
            codes = codes.squeeze(-1)
        if not self.time_ahead:
            codes = codes.transpose(1, 2)
        return codes, tokens

    @torch.no_grad()
    def tokens(self, input_signal: Tensor) -> Tensor:
        """The tokens of `forward` alone, without gathering the codes."""
        device = input_signal.device.type
        with torch.autocast(device, enabled=self.autocast and torch.is_autocast_enabled(device)):
            vectors = self._projected(input_signal)
        with torch.autocast(device, enabled=False):
            codes = self.codebooks.double()
            tokens = torch.stack(
                [self._nearest(vectors[:, :, k], codes[k]) for k in range(self.num_books)], dim=-1
            )
        return tokens.squeeze(-1) if self._squeezes() else tokens

    def _projected(self, input_signal: Tensor) -> Tensor:
        """(B, T', num_books, code_dim) float32 unit vectors; the zero vector stays zero."""
        features = (input_signal if self.time_ahead else input_signal.transpose(1, 2)).float()
        batch, frames, width = features.shape
        if width != self.feat_in:
            raise ValueError(f"the quantizer was built for {self.feat_in} features, got {width}")
        if frames % self.combine_time_steps:
            raise ValueError(
                f"{frames} frames do not divide by combine_time_steps {self.combine_time_steps}; "
                "preprocessor.pad_to must be a multiple of it"
            )
        stacked = features.reshape(batch, frames // self.combine_time_steps, -1)
        projected = F.linear(stacked, self.proj.weight.float())
        return F.normalize(projected.view(batch, -1, self.num_books, self.code_dim), dim=-1)

    def _nearest(self, vectors: Tensor, codes: Tensor) -> Tensor:
        """Index (B, T') of the code (num_classes, code_dim) nearest to each of `vectors` (B, T', code_dim).

        |x - c|^2 = |x|^2 + |c|^2 - 2 x c, so the largest x c - |c|^2 / 2 is the nearest: a matrix product
        in place of a (B, T', num_classes, code_dim) difference.  For "cosine" the codes' lengths do not
        count.
        """
        flat = vectors.flatten(0, 1).double()
        offsets = -0.5 * codes.square().sum(-1) if self.dist_fn == "l2" else torch.zeros_like(codes[:, 0])
        rows = max(MAX_SCORES // self.num_classes, 1)
        found = [torch.addmm(offsets, chunk, codes.T).argmax(dim=-1) for chunk in flat.split(rows)]
        nearest = torch.cat(found).view(vectors.shape[:2])
        if self.dist_fn == "l2":
            # A zero vector (padding) is equally far from all unit codes, so rounding of their lengths
            # decides.
            nearest_to_zero = codes.norm(dim=-1).argmin()
            nearest = torch.where((vectors == 0).all(dim=-1), nearest_to_zero, nearest)
        return nearest

    def _squeezes(self) -> bool:
        return self.squeeze_single and self.num_books == 1
