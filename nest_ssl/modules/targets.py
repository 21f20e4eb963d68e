"""The `_target_` names of configurations that this room can build."""

from __future__ import annotations

from nest_ssl.modules.audio_preprocessing import AudioToMelSpectrogramPreprocessor
from nest_ssl.modules.conformer_encoder import ConformerEncoder
from nest_ssl.modules.conv_asr import ConvASRDecoder, ConvASRDecoderReconstruction
from nest_ssl.modules.spectrogram_augmentation import MaskedPatchAugmentation, SpectrogramAugmentation
from nest_ssl.modules.ssl_modules.augmentation import MultiSpeakerNoiseAugmentation, SpeakerNoiseAugmentation
from nest_ssl.modules.ssl_modules.masking import RandomBlockMasking
from nest_ssl.modules.ssl_modules.multi_softmax_decoder import MultiSoftmaxDecoder
from nest_ssl.modules.ssl_modules.quantizers import RandomProjectionVectorQuantizer

_NEMO = "nemo.collections.asr.modules"

# Class -> modules of NeMo where configurations find it, besides nemo.collections.asr.modules itself.
_HOMES = {
    AudioToMelSpectrogramPreprocessor: ("audio_preprocessing",),
    SpectrogramAugmentation: ("audio_preprocessing",),
    MaskedPatchAugmentation: ("audio_preprocessing",),
    ConformerEncoder: ("conformer_encoder",),
    ConvASRDecoder: ("conv_asr",),
    ConvASRDecoderReconstruction: ("conv_asr",),
    SpeakerNoiseAugmentation: ("ssl_modules", "ssl_modules.augmentation"),
    MultiSpeakerNoiseAugmentation: ("ssl_modules", "ssl_modules.augmentation"),
    RandomBlockMasking: ("ssl_modules", "ssl_modules.masking"),
    MultiSoftmaxDecoder: ("ssl_modules", "ssl_modules.multi_softmax_decoder"),
    RandomProjectionVectorQuantizer: ("ssl_modules", "ssl_modules.quantizers"),
}

TARGETS: dict[str, type] = {
    name: cls
    for cls, homes in _HOMES.items()
    for name in (
        f"{_NEMO}.{cls.__name__}",
        *(f"{_NEMO}.{home}.{cls.__name__}" for home in homes),
        f"{cls.__module__}.{cls.__name__}",
    )
}

# Classes of NeMo that its self-supervised YAMLs name and that are not here, by the last part of the name.
_CONVOLUTIONAL = (
    "the convolutional encoder of Citrinet, ContextNet and TitaNet is not implemented; the encoder here is "
    "nemo.collections.asr.modules.ConformerEncoder"
)
_WAV2VEC = (
    "wav2vec 2.0 on waveforms is not implemented; the contrastive task on mel features has "
    "AudioToMelSpectrogramPreprocessor and ConformerEncoder (NeMo's fast-conformer.yaml)"
)
_SPEAKER = (
    "speaker models are not implemented; python -m nest_ssl.bin.extract_features writes the features of any "
    "layers of a NEST encoder"
)
NOT_HERE = {
    "ConvASREncoder": _CONVOLUTIONAL,
    **dict.fromkeys(("ConvFeatureEncoder", "Wav2VecTransformerEncoder"), _WAV2VEC),
    **dict.fromkeys(("ECAPAEncoder", "SpeakerDecoder", "ConformerMultiLayerFeaturePreprocessor"), _SPEAKER),
}
