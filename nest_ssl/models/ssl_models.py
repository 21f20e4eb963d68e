"""NeMo's name for the file with the self-supervised models; each has a file of its own here."""

from nest_ssl.models.denoise_model import EncDecDenoiseMaskedTokenPredModel
from nest_ssl.models.masked_token_model import EncDecMaskedTokenPredModel
from nest_ssl.models.self_supervised_model import SpeechEncDecSelfSupervisedModel

__all__ = [
    "EncDecDenoiseMaskedTokenPredModel",
    "EncDecMaskedTokenPredModel",
    "SpeechEncDecSelfSupervisedModel",
]
