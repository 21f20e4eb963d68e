"""The corpora of this recipe: where their publishers keep them and what is in each archive."""

from __future__ import annotations

from dataclasses import dataclass

OPENSLR = "https://www.openslr.org/resources"
LIBRILIGHT = "https://dl.fbaipublicfiles.com/librilight/data"
CHECKSUM_LISTS = ("md5sum.txt", "checksum.md5")  # as publishers name the list beside their archives


@dataclass(frozen=True)
class Part:
    """One archive."""

    name: str
    site: str  # address of the folder that holds the archive
    archive: str
    folder: str  # what the archive unpacks to, under the folder of the corpora
    md5: str = ""  # as published on the corpus's page, where no list lies beside the archive
    license: str = "CC BY 4.0"


LIBRISPEECH = (
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
)
LIBRILIGHT_MD5 = {
    "small": "c49207eb86a8e8ac895561c37232041e",
    "medium": "c75e7ac62471bfbf2db77528d62a9b74",
    "large": "4dfbac018f50b99797ece101fc9f0c30",
}
NOISES = ("musan", "rirs")

PARTS = {
    part.name: part
    for part in (
        *(Part(name, f"{OPENSLR}/12", f"{name}.tar.gz", f"LibriSpeech/{name}") for name in LIBRISPEECH),
        *(
            Part(name, LIBRILIGHT, f"{name}.tar", name, md5, "public domain")
            for name, md5 in LIBRILIGHT_MD5.items()
        ),
        Part("musan", f"{OPENSLR}/17", "musan.tar.gz", "musan", "0c472d4fc0c5141eca47ad1ffeb2a7df"),
        Part(
            "rirs", f"{OPENSLR}/28", "rirs_noises.zip", "RIRS_NOISES",
            "e6f48e257286e05de56413b4779d8ffb", "Apache 2.0",
        ),
    )
}  # fmt: skip
