"""What the corpus consists of: languages, voices, licences, and the names of packages and tarballs."""

from __future__ import annotations

from dataclasses import dataclass

PROMPTS_VERSION = "1.6.1"
MUSIC_VERSION = "2.03"
FORMATS = ("g722", "gsm", "wav")
TEXTS = "txt"  # the archive of a language's prompt texts
MUSIC = "moh"  # stands where archives of prompts have their language
UPSTREAM = "https://downloads.asterisk.org/pub/telephony/sounds/releases/"


@dataclass(frozen=True)
class Language:
    """One recorded voice; `voice` is its folder in the packages and the speaker in the manifests."""

    code: str
    voice: str
    license: str


LANGUAGES = {
    language.code: language
    for language in (
        Language("en", "en_US_f_Allison", "CC-BY-SA-3.0"),
        Language("es", "es_MX_f_Allison", "CC-BY-SA-3.0"),
        Language("fr", "fr_CA_f_June", "CC-BY-SA-3.0"),
        Language("it", "it_IT_m_Carlo", "CC-BY-3.0"),
        Language("ru", "ru_RU_f_IvrvoiceRU", "CC-BY-3.0"),
    )
}
MUSIC_LICENSE = "CC-BY-SA-3.0"


@dataclass(frozen=True)
class Source:
    """One archive to fetch: the prompts of a language in a format, its texts, or the music."""

    language: str  # or MUSIC
    format: str  # one of FORMATS, or TEXTS

    @property
    def name(self) -> str:
        return f"{self.language}-{self.format}"

    @property
    def package(self) -> str:
        """Name of the Debian package."""
        if self.language == MUSIC:
            return f"asterisk-moh-opsound-{self.format}"
        ending = "" if self.format == TEXTS else f"-{self.format}"
        return f"asterisk-core-sounds-{self.language}{ending}"

    @property
    def tarball(self) -> str:
        """Name of the upstream project's release; the texts are in every one of their language."""
        if self.language == MUSIC:
            return f"asterisk-moh-opsound-{self.format}-{MUSIC_VERSION}.tar.gz"
        audio_format = FORMATS[0] if self.format == TEXTS else self.format
        return f"asterisk-core-sounds-{self.language}-{audio_format}-{PROMPTS_VERSION}.tar.gz"


def sources(languages: list[str], formats: list[str]) -> list[Source]:
    """Every archive that these languages and formats need; the music always as G.722, at 16 kHz."""
    wanted = [Source(language, kind) for language in languages for kind in (*formats, TEXTS)]
    return [*wanted, Source(MUSIC, "g722")]
