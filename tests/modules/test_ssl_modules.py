"""Quantiser, masking, decoder, loss and augmentation by themselves."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nest_ssl.losses.ssl_losses.mlm import MLMLoss, MultiMLMLoss
from nest_ssl.modules.ssl_modules import quantizers
from nest_ssl.modules.ssl_modules.augmentation import (
    MultiSpeakerNoiseAugmentation,
    SpeakerNoiseAugmentation,
    random_partition,
    share_of,
)
from nest_ssl.modules.ssl_modules.masking import RandomBlockMasking
from nest_ssl.modules.ssl_modules.multi_softmax_decoder import MultiSoftmaxDecoder
from nest_ssl.modules.ssl_modules.quantizers import RandomProjectionVectorQuantizer


def quantizer(**options):
    torch.manual_seed(0)
    plain = {"feat_in": 10, "code_dim": 4, "num_classes": 50, "num_books": 2, "combine_time_steps": 4}
    return RandomProjectionVectorQuantizer(**{**plain, "dist_fn": "l2", **options})


def plain_tokens(module, features):
    """The definition: the smallest float64 distance, over every pair of vector and code."""
    batch, width, frames = features.shape
    step = module.combine_time_steps
    stacked = features.transpose(1, 2).reshape(batch, frames // step, step * width)
    vectors = F.normalize(module.proj(stacked).view(batch, frames // step, module.num_books, -1), dim=-1)
    distances = (vectors.unsqueeze(-2) - module.codebooks).norm(dim=-1)
    return distances.argmin(dim=-1)


class TestQuantizer:
    @pytest.mark.parametrize("max_scores", [2**23, 400])
    def test_nearest_code_is_found(self, max_scores, monkeypatch):
        monkeypatch.setattr(quantizers, "MAX_SCORES", max_scores)
        module, features = quantizer(), torch.randn(3, 10, 80)
        assert torch.equal(module.tokens(features), plain_tokens(module, features))

    def test_zero_frames_get_the_token_of_the_definition(self):
        module = quantizer()
        features = torch.zeros(1, 10, 8)
        assert torch.equal(module.tokens(features), plain_tokens(module, features))

    def test_ties_go_to_the_lower_index(self):
        module = quantizer(num_books=1)
        module.codebooks.data[:, 7] = module.codebooks[:, 31]
        tokens = module.tokens(torch.randn(1, 10, 4000))
        assert (tokens == 7).any()
        assert not (tokens == 31).any()

    def test_cosine_and_l2_agree_on_unit_codes(self):
        features = torch.randn(2, 10, 80)
        assert torch.equal(quantizer().tokens(features), quantizer(dist_fn="cosine").tokens(features))

    def test_codes_are_those_of_the_tokens(self):
        module = quantizer(num_books=1)
        codes, tokens = module(input_signal=torch.randn(2, 10, 40))
        assert codes.shape == (2, 4, 10, 1)
        torch.testing.assert_close(codes[1, :, 3, 0], module.codebooks[0, tokens[1, 3, 0]])

    def test_time_first_inputs(self):
        features = torch.randn(2, 10, 40)
        codes, tokens = quantizer(num_books=1)(input_signal=features)
        time_codes, time_tokens = quantizer(num_books=1, time_ahead=True)(
            input_signal=features.transpose(1, 2)
        )
        assert torch.equal(tokens, time_tokens)
        torch.testing.assert_close(codes.transpose(1, 2), time_codes)

    def test_a_single_book_may_be_squeezed(self):
        codes, tokens = quantizer(num_books=1, squeeze_single=True)(input_signal=torch.randn(2, 10, 40))
        assert codes.shape == (2, 4, 10)
        assert tokens.shape == (2, 10)

    def test_autocast_and_precision_do_not_change_tokens(self):
        module, features = quantizer(), torch.randn(2, 10, 400)
        expected = module.tokens(features)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(module.tokens(features), expected)

    def test_nothing_is_trained(self):
        assert not any(p.requires_grad for p in quantizer().parameters())
        assert quantizer().codebooks.dtype == torch.float64

    def test_frames_that_do_not_divide_are_refused(self):
        with pytest.raises(ValueError, match="41 frames do not divide by combine_time_steps 4"):
            quantizer().tokens(torch.randn(1, 10, 41))

    def test_another_width_is_refused(self):
        with pytest.raises(ValueError, match="built for 10 features, got 11"):
            quantizer().tokens(torch.randn(1, 11, 40))


class TestMasking:
    def test_masked_frames_are_the_embedding_and_the_rest_is_untouched(self):
        module = RandomBlockMasking(feat_in=5, mask_prob=0.05, block_size=10, allow_overlap=True)
        features = torch.randn(2, 5, 200)
        masked, mask = module(input_feats=features, input_lengths=torch.tensor([200, 120]))
        frames = mask[:, 0].bool()
        assert frames.any()
        assert not frames.all()
        assert torch.equal(masked.transpose(1, 2)[frames], module.mask_embedding.expand(int(frames.sum()), 5))
        assert torch.equal(masked.transpose(1, 2)[~frames], features.transpose(1, 2)[~frames])
        assert mask.dtype == features.dtype
        assert mask.shape == features.shape

    def test_overlapping_blocks_stay_within_the_item(self):
        module = RandomBlockMasking(feat_in=1, mask_prob=0.3, block_size=10, allow_overlap=True)
        mask = module.sample_mask([60, 100], 200)
        assert not mask[0, 60:].any()
        assert not mask[1, 100:].any()

    def test_a_block_that_reaches_beyond_the_batch_is_cut(self):
        # The first block starts up to 40 frames in, although the blocks of this short item are shrunk.
        module = RandomBlockMasking(feat_in=1, mask_prob=0.5, block_size=40, allow_overlap=False)
        for seed in range(50):
            torch.manual_seed(seed)
            mask = module.sample_mask([60], 60)
            assert mask.shape == (1, 60)

    def test_short_items_get_their_first_frames_masked(self):
        module = RandomBlockMasking(feat_in=1, block_size=40, allow_overlap=True)
        mask = module.sample_mask([49, 5, 0], 60)
        assert mask.sum(1).tolist() == [8, 5, 0]
        assert mask[0, :8].all()

    def test_embedding_is_trained_if_asked(self):
        module = RandomBlockMasking(feat_in=5, freeze=False)
        masked, _ = module(input_feats=torch.randn(1, 5, 300), input_lengths=torch.tensor([300]))
        masked.sum().backward()
        assert module.mask_embedding.grad is not None

    def test_constant_embedding_is_never_trained(self):
        module = RandomBlockMasking(feat_in=5, freeze=False, mask_value=0.5)
        assert not module.mask_embedding.requires_grad
        assert (module.mask_embedding == 0.5).all()

    def test_features_are_not_changed_in_place(self):
        features = torch.randn(1, 5, 300)
        before = features.clone()
        RandomBlockMasking(feat_in=5)(input_feats=features, input_lengths=torch.tensor([300]))
        assert torch.equal(features, before)


class TestDecoderAndLoss:
    def test_channels_are_classes_of_books(self):
        module, frames = MultiSoftmaxDecoder(feat_in=6, num_classes=5, num_decoders=2), torch.randn(2, 6, 7)
        log_probs = module(encoder_output=frames)
        channels = module.decoder_layers(frames)
        expected = torch.stack([channels[:, book::2].log_softmax(1) for book in range(2)], dim=-1)
        torch.testing.assert_close(log_probs, expected.transpose(1, 2))

    def test_loss_is_the_mean_over_masked_frames(self):
        log_probs, targets = torch.randn(2, 6, 5).log_softmax(-1), torch.randint(0, 5, (2, 6))
        masks = torch.zeros(2, 3, 24)
        masks[0, :, 4:12] = 1.0  # frames 1 and 2 of 4 values each
        masks[1, :, 20:23] = 1.0  # three quarters of frame 5: not more than 0.8
        loss = MLMLoss(combine_time_steps=4)(masks=masks, decoder_outputs=log_probs, targets=targets)
        expected = -(log_probs[0, 1, targets[0, 1]] + log_probs[0, 2, targets[0, 2]]) / 2
        torch.testing.assert_close(loss, expected)

    def test_books_are_averaged(self):
        log_probs, targets = torch.randn(2, 6, 5, 3).log_softmax(2), torch.randint(0, 5, (2, 6, 3))
        masks = torch.ones(2, 3, 6)
        single = MLMLoss()
        by_book = [single(masks, log_probs[..., k], targets[..., k]) for k in range(3)]
        loss = MultiMLMLoss(num_decoders=3)(masks=masks, decoder_outputs=log_probs, targets=targets)
        torch.testing.assert_close(loss, sum(by_book) / 3)

    def test_nothing_masked_is_nan_as_in_nemo(self):
        loss = MLMLoss()(torch.zeros(1, 3, 6), torch.zeros(1, 6, 5), torch.zeros(1, 6, dtype=torch.long))
        assert loss.isnan()

    def test_short_targets_are_padded(self):
        loss = MLMLoss()(torch.ones(1, 3, 6), torch.zeros(1, 6, 5), torch.zeros(1, 4, dtype=torch.long))
        assert loss == 0

    @pytest.mark.parametrize(("outputs", "targets"), [(7, 6), (6, 7), (5, 6)])
    def test_one_frame_more_or_less_is_left_out(self, outputs, targets):
        log_probs, tokens = torch.randn(1, outputs, 5).log_softmax(-1), torch.randint(0, 5, (1, targets))
        masks = torch.ones(1, 3, 6)
        frames = min(outputs, 6)
        expected = MLMLoss()(torch.ones(1, 3, frames), log_probs[:, :frames], tokens[:, :frames])
        loss = MLMLoss()(masks=masks, decoder_outputs=log_probs, targets=tokens)
        torch.testing.assert_close(loss, expected)

    def test_both_names_of_the_mask_and_none(self):
        log_probs, tokens = torch.randn(1, 6, 5).log_softmax(-1), torch.randint(0, 5, (1, 6))
        whole = MLMLoss()(spec_masks=torch.ones(1, 3, 6), decoder_outputs=log_probs, targets=tokens)
        assert torch.equal(whole, MLMLoss()(decoder_outputs=log_probs, targets=tokens))

    def test_frame_counts_must_agree(self):
        with pytest.raises(ValueError, match="mask has 3 encoder frames and the decoder 6"):
            MLMLoss(combine_time_steps=2)(torch.ones(1, 3, 6), torch.zeros(1, 6, 5), torch.zeros(1, 6).long())
        with pytest.raises(ValueError, match="7 mask frames do not divide"):
            MLMLoss(combine_time_steps=2)(torch.ones(1, 3, 7), torch.zeros(1, 6, 5), torch.zeros(1, 6).long())


def speech_batch(*lengths, noise_lengths=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    audio, noise = torch.zeros(len(lengths), longest), torch.zeros(len(lengths), longest)
    noise_lengths = noise_lengths or lengths
    for item, (length, noise_length) in enumerate(zip(lengths, noise_lengths, strict=True)):
        audio[item, :length] = torch.randn(length, generator=generator)
        noise[item, :noise_length] = torch.randn(noise_length, generator=generator)
    return SimpleNamespace(
        audio=audio, audio_len=torch.tensor(lengths), noise=noise, noise_len=torch.tensor(noise_lengths)
    )


class TestSingleSegment:
    def augmented(self, batch, **options):
        return SpeakerNoiseAugmentation(prob=1.0, **options)(batch, random.Random(3))

    def test_one_piece_of_noise_at_the_level_of_the_whole_recording(self):
        batch = speech_batch(4000, 3000, noise_lengths=(4000, 3000))
        audio, noise = batch.audio.clone(), batch.noise.clone()
        options = {"min_r_noise": 6.0, "max_r_noise": 6.0, "min_mix_rate": 0.2, "max_mix_rate": 0.5}
        self.augmented(batch, noise_ratio=1.0, **options)
        for item, length in enumerate((4000, 3000)):
            inside = batch.noise[item].nonzero().squeeze(1)
            size = len(inside)
            assert int(inside[-1] - inside[0]) == size - 1
            assert 0.2 * length - 1 <= size < 0.5 * length
            piece = batch.noise[item, inside]
            levels = [signal[item, :length].square().mean() for signal in (audio, noise)]
            gain = (levels[0] / levels[1] / 10**0.6).sqrt()
            windows = noise[item, :length].unfold(0, size, 1) * gain
            assert (windows - piece).abs().amax(dim=1).min() < 1e-5
        assert torch.equal(batch.noisy_audio, batch.audio + batch.noise)

    def test_speech_of_another_item(self):
        batch = speech_batch(4000, 3000)
        other = batch.audio[1, :3000].clone()
        self.augmented(batch, noise_ratio=0.0, min_mix_rate=0.9, max_mix_rate=1.0)
        added = batch.noise[0][batch.noise[0] != 0]
        ratios = added[:1000] / other[:1000]  # longer than the other item: it is repeated from its start
        torch.testing.assert_close(ratios, ratios[:1].expand(1000), rtol=1e-4, atol=0.0)

    @pytest.mark.parametrize("rates", [(1.0, 1.0), (0.0, 0.0), (0.0, 0.0001)])
    def test_extreme_shares(self, rates):
        batch = self.augmented(speech_batch(4000), min_mix_rate=rates[0], max_mix_rate=rates[1])
        assert torch.isfinite(batch.noise).all()

    def test_levels_the_wrong_way_round_are_refused(self):
        with pytest.raises(ValueError, match="min_r_noise 5 is above max_r_noise 4"):
            SpeakerNoiseAugmentation(min_r_noise=5, max_r_noise=4)


def test_shares_are_rounded_in_float32():
    length, rate = 16777, 0.7 - 2**-50
    assert share_of(length, rate) == int(torch.tensor(length) * rate)
    assert share_of(100003, 0.3) == int(np.float32(100003) * np.float32(0.3))


class TestAugmentation:
    @pytest.mark.parametrize("parts", [1, 2, 5])
    @pytest.mark.parametrize("total", [1, 3, 1000])
    def test_partition_is_that_of_random_choices(self, parts, total):
        fast, slow = random.Random(4), random.Random(4)
        slow.gauss(0, 1), fast.gauss(0, 1)
        expected = list(Counter(slow.choices(range(parts), k=total)).values())
        assert random_partition(total, parts, fast) == expected
        assert fast.getstate() == slow.getstate()

    def test_partition_with_another_kind_of_generator(self):
        lengths = random_partition(100, 3, random.SystemRandom())
        assert sum(lengths) == 100

    def test_level_is_the_one_drawn(self):
        batch = speech_batch(4000, 3000)
        augmentor = MultiSpeakerNoiseAugmentation(
            prob=1.0, noise_ratio=1.0, min_r_noise=7.0, max_r_noise=7.0, min_mix_rate=0.3, max_mix_rate=0.6
        )
        augmentor(batch, random.Random(0))
        for item, length in enumerate((4000, 3000)):
            energies = [signal[item, :length].square().sum() for signal in (batch.audio, batch.noise)]
            assert 10 * torch.log10(energies[0] / energies[1]) == pytest.approx(7.0, abs=1e-3)
            assert not batch.noise[item, length:].any()
        assert torch.equal(batch.noisy_audio, batch.audio + batch.noise)

    def test_default_generator_is_pythons(self):
        augmentor = MultiSpeakerNoiseAugmentation(prob=1.0, noise_ratio=0.5)
        random.seed(11)
        first = augmentor(speech_batch(4000, 3000))
        second = augmentor(speech_batch(4000, 3000), random.Random(11))
        assert torch.equal(first.noise, second.noise)

    def test_an_item_left_alone_keeps_its_noise_and_its_length(self):
        batch = speech_batch(4000, 3000, noise_lengths=(1000, 500))
        before = batch.noise.clone()
        MultiSpeakerNoiseAugmentation(prob=0.0)(batch, random.Random(0))
        assert torch.equal(batch.noise, before)
        assert batch.noise_len.tolist() == [1000, 500]
        assert batch.noisy_audio_len.tolist() == [4000, 3000]

    def test_silent_noise_adds_nothing(self):
        batch = speech_batch(4000)
        batch.noise.zero_()
        MultiSpeakerNoiseAugmentation(prob=1.0, noise_ratio=1.0)(batch, random.Random(0))
        assert torch.equal(batch.noisy_audio, batch.audio)

    def test_a_single_item_gets_noise_even_if_speech_was_asked_for(self):
        batch = speech_batch(4000)
        before = batch.noise.clone()
        MultiSpeakerNoiseAugmentation(prob=1.0, noise_ratio=0.0)(batch, random.Random(0))
        assert torch.isfinite(batch.noise).all()
        assert not torch.equal(batch.noise, before)

    def test_more_speakers_than_there_are(self):
        batch = speech_batch(4000, 900)
        augmentor = MultiSpeakerNoiseAugmentation(
            prob=1.0, min_num_speakers=4, max_num_speakers=4, min_num_segments=5, max_num_segments=5
        )
        augmentor(batch, random.Random(0))
        assert torch.isfinite(batch.noise).all()

    @pytest.mark.parametrize(
        "options",
        [
            {"prob": 1.1},
            {"noise_ratio": -0.1},
            {"min_mix_rate": 0.8, "max_mix_rate": 0.5},
            {"min_num_segments": 0},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_impossible_options_are_refused(self, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            MultiSpeakerNoiseAugmentation(**options)


@pytest.mark.parametrize(("allow_overlap", "masked"), [(True, 5), (False, 8)])
def test_an_item_of_less_than_eight_frames_is_masked_as_nemo_masks_it(allow_overlap, masked):
    """Measured with NeMo 2.7.3: side by side, the block of eight reaches into the padding."""
    masking = RandomBlockMasking(feat_in=2, block_size=40, allow_overlap=allow_overlap)
    _, mask = masking(torch.zeros(1, 2, 16), torch.tensor([5]))
    assert mask[0, 0].tolist() == [1.0] * masked + [0.0] * (16 - masked)
