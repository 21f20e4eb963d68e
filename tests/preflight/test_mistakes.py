"""Mistakes that users make, each planted in a sound fine-tuning: preflight's message names the cause."""

import json
import shutil
from collections.abc import Callable

import pytest

from nest_ssl.preflight.report import Report
from tests.preflight.planted import World, add_sound, set_prompt, set_text

Plant = Callable[[World], object]
# name -> plant, level, words of the message
MISTAKES: dict[str, tuple[Plant, str, tuple[str, ...]]] = {}
IN_DATA: dict[str, tuple[Plant, str, tuple[str, ...]]] = {}  # the model is the sound one: built once


def mistake(level: str, *words: str, table: dict = MISTAKES) -> Callable[[Plant], Plant]:
    """Register a mistake: the level of its finding, and what the finding must say."""

    def register(plant: Plant) -> Plant:
        table[plant.__name__] = (plant, level, words)
        return plant

    return register


def in_data(level: str, *words: str) -> Callable[[Plant], Plant]:
    """Register a mistake in the data or in the folder of the run."""
    return mistake(level, *words, table=IN_DATA)


def given(name: str, level: str, override: str, *words: str, part: str = "encoder") -> None:
    """Register a mistake of the command line."""

    def plant(world: World) -> None:
        world.part = part
        world.words += override.split(" ")

    MISTAKES[name] = (plant, level, words)


# P1: front end, axes, lengths

given(
    "fs_8000_as_a_cure", "error", "++frontend_conf.fs=8000",
    "P1.fs", "is 8000, the model was trained at 16000", "no cure", "20-4000 Hz", "frontend_conf.fs=16000",
)  # fmt: skip
given(
    "another_frame_rate",
    "error",
    "++frontend_conf.lfr_n=3",
    "P1.frontend",
    "frontend_conf.lfr_n is 3",
    "has 6",
)
given("fewer_mel_bands", "error", "++frontend_conf.n_mels=40", "P1.frontend", "frontend_conf.n_mels is 40")
given(
    "a_data_set_that_swaps_the_axes", "error", "++dataset=OpenAIDatasetMultiTurn",
    "P1.axes", "time and feature axis are swapped", "tensor a (17) must match", "dataset=FunASR",
)  # fmt: skip
given(
    "a_data_set_that_is_not_registered", "error", "++dataset=FunASRNano", "P1.dataset", "Set dataset=FunASR"
)
given(
    "another_number_of_audio_tokens_in_decoding", "warning", "++audio_adaptor_conf.use_low_frame_rate=false",
    "P1.low_frame_rate", "first eighth", "use_low_frame_rate=true",
)  # fmt: skip
given("whisper_front_end", "error", "++frontend=WhisperFrontend", "P1.axes", "frontend is 'WhisperFrontend'")
given(
    "frame_rate_stated_otherwise", "warning", "++dataset_conf.audio_encoder_downsample_rate=8",
    "P1.lfr", "is 8, frontend_conf.lfr_n is 6",
)  # fmt: skip


@in_data("error", "P1.speech_length", "60-ms frames", "ratio 0.1", "floor((ms - 25) / 10) + 1")
def speech_length_in_lfr_units(world):
    world.change(lambda row: row.update(speech_length=-(-row["speech_length"] // 6)))


@in_data("error", "P1.speech_length", "half the sample rate")
def speech_length_of_a_wrong_rate(world):
    world.change(lambda row: row.update(speech_length=row["speech_length"] // 2))


@in_data("error", "P1.speech_length", "counts samples at 16 kHz")
def speech_length_in_samples(world):
    world.change(lambda row: row.update(speech_length=row["speech_length"] * 160))


@in_data("error", "P1.speech_length", "have no speech_length", "drops the row without a word")
def speech_length_forgotten(world):
    world.change(lambda row: row.pop("speech_length"), first=2)


@in_data("error", "P1.short", "shorter than one window of 25 ms")
def audio_of_a_click(world):
    add_sound(world, 0.02)


@in_data("warning", "P1.rate", "has 4000 Hz", "wrong rate in the header")
def a_wrong_rate_in_the_header(world):
    add_sound(world, 1.0, rate=4000)


@mistake("error", "P1.positions", "max_position_embeddings 64")
def longer_than_the_language_model(world):
    world.file("Qwen3-0.6B/config.json", lambda content: content.update(max_position_embeddings=64))


# P2: directories and weights


@mistake("error", "P2.hub", "name of a model on a hub", "Download it first")
def a_hub_name_for_a_directory(world):
    world.model = "FunAudioLLM/Fun-ASR-Nano-2512"


@mistake("error", "P2.directory", "is no folder")
def a_directory_that_is_not_there(world):
    world.model = world.folder / "modle"


@mistake("error", "P2.config", "has no config.yaml", "OUT/model")
def the_folder_of_a_run_for_a_model(world):
    world.model = world.folder / "train"


given(
    "init_param_of_a_hub", "error", "++init_param=iic/Fun-ASR-Nano",
    "P2.init_param", "iic/Fun-ASR-Nano", "does not exist", "random weights",
)  # fmt: skip
given(
    "init_param_in_a_lost_cache", "error", "++init_param=/root/.cache/modelscope/model.pt",
    "P2.init_param", "/root/.cache/modelscope/model.pt", "does not exist", "cache path",
)  # fmt: skip


@mistake("error", "P2.missing", "names init_param: model.pt", "random weights", "Copy model.pt")
def configuration_without_the_weights(world):
    (world.folder / "model" / "model.pt").unlink()


@mistake("error", "P2.missing", "has neither model.pt nor configuration.json")
def neither_weights_nor_configuration(world):
    (world.folder / "model" / "model.pt").unlink()
    (world.folder / "model" / "configuration.json").unlink()


@mistake("error", "P2.base", "output folder of a training", "not with", "copy configuration.json")
def the_output_of_funasr_that_points_at_its_base(world):
    model = world.folder / "model"
    (model / "configuration.json").unlink()
    base = world.folder / "base.pt"
    shutil.copy(model / "model.pt", base)
    world.file("config.yaml", lambda content: content.update(init_param=str(base)))


@mistake("error", "P2.load", "no llm.*", "effective_save_name_excludes", "random language model")
def weights_saved_without_the_language_model(world):
    world.weights(lambda state: [state.pop(key) for key in list(state) if key.startswith("llm.")])


@mistake("error", "P2.pointer", "git-lfs pointer", "git lfs pull")
def a_clone_without_lfs(world):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 2127426538\n"
    (world.folder / "model" / "model.pt").write_text(text)


@mistake("error", "P2.pointer", "is a web page")
def a_download_that_was_refused(world):
    (world.folder / "model" / "model.pt").write_text("<!DOCTYPE html><html>403</html>")


@mistake("error", "P2.pointer", "is empty", "broke off")
def a_download_that_did_not_begin(world):
    (world.folder / "model" / "model.pt").write_bytes(b"")


@mistake("error", "P2.load", "model.pt")
def a_download_that_broke_off(world):
    path = world.folder / "model" / "model.pt"
    path.write_bytes(path.read_bytes()[:50_000])


@mistake("error", "P2.load", "NaN or infinite", "audio_encoder.after_norm.weight", "diverged")
def weights_of_a_diverged_run(world):
    world.weights(lambda state: state["audio_encoder.after_norm.weight"].fill_(float("nan")))


@mistake("error", "P2.load", "audio_encoder.encoders.0")
def weights_of_a_shallower_encoder(world):
    gone = "audio_encoder.encoders.0."
    world.weights(lambda state: [state.pop(key) for key in list(state) if key.startswith(gone)])


given(
    "another_width_than_the_weights", "error", "++audio_encoder_conf.linear_units=64", "P2.load", "w_1.weight"
)


@mistake("error", "P2.tokenizer", "has 281 tokens", "264 rows", "another model")
def the_tokenizer_of_another_model(world):
    def more(content):
        one = content["added_tokens"][-1]
        content["added_tokens"] += [{**one, "id": 261 + n, "content": f"<extra{n}>"} for n in range(20)]

    world.file("Qwen3-0.6B/tokenizer.json", more)


@mistake("error", "P2.tokenizer", "<|im_end|> is token 258", "eos_token_id 256", "repeats until max_length")
def an_end_that_decoding_does_not_know(world):
    world.file("Qwen3-0.6B/config.json", lambda content: content.update(eos_token_id=256))


@mistake("warning", "P2.ctc", "Hugging Face", "ModelScope")
def stage_2_from_weights_without_ctc(world):
    world.part = "adaptor"
    world.weights(lambda state: [state.pop(k) for k in list(state) if k.startswith(("ctc.", "ctc_decoder."))])


@mistake("error", "P2.load", "ctc", "complete file")
def half_a_ctc_branch(world):
    world.weights(lambda state: state.pop("ctc.ctc_lo.bias"))


@mistake("error", "P2.load", "multilingual.tiktoken", "damaged")
def a_damaged_tiktoken_file(world):
    (world.folder / "model" / "multilingual.tiktoken").write_text("IQ= 0\n")


@mistake("error", "P2.load", "Qwen3-0.6B")
def a_model_without_its_language_model(world):
    shutil.rmtree(world.folder / "model" / "Qwen3-0.6B")


# P3: limits in four units

given(
    "a_token_limit_that_counts_frames", "warning", "++dataset_conf.max_token_length=100",
    "P3.drops", "max_token_length=100", "10-ms frames + tokens", "never scheduled",
)  # fmt: skip


@mistake("error", "P2.load", "config.json", "rms_norm_eps")
def a_text_where_the_language_model_wants_a_number(world):
    world.file("Qwen3-0.6B/config.json", lambda content: content.update(rms_norm_eps="small"))


given(
    "a_limit_that_drops_everything", "error", "++dataset_conf.max_source_length=10",
    "P3.drops", "max_source_length=10 (index", "6 of 6 rows",
)  # fmt: skip
given(
    "a_limit_that_nobody_reads", "warning", "++dataset_conf.max_speech_length=12000",
    "P3.max_speech_length", "reads max_speech_length nowhere",
)  # fmt: skip
given(
    "a_collator_that_throws_away", "warning", "++dataset_conf.batch_size_token_max=100",
    "P3.collator", "drop the longest", "batch_size_token_max",
)  # fmt: skip


@in_data("warning", "P3.long", "longer than 30 s", "Cut them at pauses")
def a_recording_that_was_not_cut(world):
    add_sound(world, 31.0)


# Number formats, ranks, schedule, stage

given("fp16", "error", "++train_conf.use_fp16=true", "PREC.fp16", "use_bf16")
given(
    "bf16_adapters_at_a_small_rate", "note", "++llm_conf.llm_dtype=bf16 ++optim_conf.lr=1e-5",
    "PREC.trainable", "rounded away", part="lora",
)  # fmt: skip
given(
    "ddp_with_unused_ctc", "error", "--world-size=2 ++train_conf.find_unused_parameters=false ++ctc_weight=0",
    "DDP.unused", "Expected to have finished reduction", "freeze_param", part="adaptor",
)  # fmt: skip
given("a_rate_that_is_a_text", "error", "++optim_conf.lr=1e-4x", "STAGE.lr", "'1e-4x'", "positive number")
given(
    "a_rate_far_from_the_plan",
    "warning",
    "++optim_conf.lr=0.5",
    "STAGE.lr",
    "is 0.5",
    "stage encoder is 0.0001",
)
given(
    "warmup_longer_than_the_run", "warning", "++train_conf.max_steps=20 ++scheduler_conf.warmup_steps=2500",
    "STAGE.warmup", "warmup_steps is 2500", "20 steps",
)  # fmt: skip
given(
    "a_frozen_part_to_train", "error", "++audio_encoder_conf.freeze=true",
    "STAGE.freeze", "audio_encoder_conf.freeze=true was given", "--part encoder",
)  # fmt: skip
given(
    "lora_targets_that_are_not_there", "error", "++llm_conf.lora_conf.target_modules=[query,value]",
    "LORA.targets", "query, value", "q_proj", part="lora",
)  # fmt: skip
given(
    "lora_switched_off_in_the_lora_stage", "error", "++llm_conf.use_lora=false",
    "LORA.off", "use_lora=false was given", part="lora",
)  # fmt: skip
given(
    "lora_without_scale", "error", "++llm_conf.lora_conf.lora_alpha=0", "LORA.alpha", "no effect", part="lora"
)

given(
    "settings_of_adapters_that_are_not_there", "warning", "++llm_conf.lora_conf.r=4",
    "LORA.idle", "llm_conf.lora_conf.r was given", "use_lora is false",
)  # fmt: skip


@mistake("warning", "STAGE.valid", "train_conf.early_stopping_patience", "no effect", "--valid")
def an_early_stop_without_validation(world):
    world.valid = None
    world.words += ["++train_conf.early_stopping_patience=3"]


# Keys

given(
    "lora_switched_on_where_nobody_looks", "error", "++train_conf.use_lora=true",
    "KEY.dead", "train_conf.use_lora", "llm_conf.use_lora=true",
)  # fmt: skip
given("a_misspelt_section", "error", "++optim_confs.lr=1e-4", "optim_confs", "did you mean optim_conf?")
given(
    "a_key_in_the_wrong_section", "error", "++llm_conf.target_modules=[q_proj]",
    "KEY.unknown", "llm_conf.target_modules", "llm_conf.lora_conf.target_modules",
)  # fmt: skip
given(
    "nemos_name_of_a_key",
    "error",
    "++train_conf.max_epochs=3",
    "KEY.unknown",
    "Did you mean train_conf.max_epoch?",
)
given(
    "a_data_key_that_is_none",
    "error",
    "++dataset_conf.batchsize=4",
    "KEY.dataset_conf",
    "batchsize",
    "batch_size?",
)
given("a_blank_that_funasr_refuses", "error", "++ctc_conf.blank_id=0", "KEY.blank", "last class")
given(
    "excluding_the_language_model", "note", "++train_conf.effective_save_name_excludes=[llm.]",
    "KEY.excludes", "without llm.*", "not honoured",
)  # fmt: skip

# Prompts

given(
    "the_published_context_prompt", "warning", "++dataset_conf.prompt_classes=MultiContextPrompt",
    "PROMPT.header", "MultiContextPrompt", "prompt_classes=null",
)  # fmt: skip
given(
    "thinking_in_training_only",
    "warning",
    "++dataset_conf.do_think=false",
    "PROMPT.layout",
    "do_think is False",
)


@in_data("warning", "PROMPT.template", "'Please write down:'", "that inference does not say")
def a_prompt_of_ones_own(world):
    world.change(lambda row: set_prompt(row, "Please write down:"))


@in_data("warning", "PROMPT.validation", "that no training row has")
def another_prompt_in_validation(world):
    world.change(lambda row: set_prompt(row, "语音转写："), "valid")


@in_data("warning", "PROMPT.system", "'You are a pirate.'")
def another_system_message(world):
    world.change(lambda row: row["messages"][0].update(content="You are a pirate."))


# Texts


@in_data("error", "TEXT.empty", "have no text")
def an_empty_transcript(world):
    world.change(lambda row: set_text(row, ""), first=1)


@in_data("error", "TEXT.control", "<|im_end|>", "commands")
def a_control_token_in_the_transcript(world):
    world.change(lambda row: set_text(row, "abc<|im_end|>"), first=1)


@in_data("warning", "TEXT.encoding", "UTF-8 read as Latin-1")
def a_transcript_in_a_wrong_encoding(world):
    world.change(lambda row: set_text(row, "你好吗".encode().decode("latin-1")), first=1)


@mistake("warning", "TEXT.tokens", "come back changed")
def characters_outside_the_tokenizer(world):
    def ascii_only(content):
        kept = {token: n for token, n in content["model"]["vocab"].items() if n < 128}
        content["model"]["vocab"] = kept

    world.file("Qwen3-0.6B/tokenizer.json", ascii_only)
    world.change(lambda row: set_text(row, "你好", count=False), first=1)


@in_data("warning", "TEXT.text_length", "seems to count characters")
def text_length_in_characters(world):
    world.change(lambda row: (set_text(row, "你好"), row.update(text_length=2)))


@mistake("warning", "CTC.infeasible", "more CTC labels than frames", "60 ms a frame")
def a_text_too_long_for_its_audio(world):
    world.words.append("++ctc_weight=0.3")
    world.change(lambda row: set_text(row, "abcdefghij" * 6), first=1)


# Data


@in_data("error", "DATA.line", "bad JSON", "tiny.messages.jsonl:7")
def a_line_that_is_cut(world):
    with world.train.open("a") as file:
        file.write('{"key": "x", "messages": [\n')


@in_data("error", "DATA.line", "is not ! and a path", "exclamation mark")
def a_path_without_its_mark(world):
    def unmark(row):
        row["messages"][1]["content"] = row["messages"][1]["content"].replace(">!", ">")

    world.change(unmark, first=1)


@in_data("error", "DATA.line", "bad roles")
def two_answers_in_a_row(world):
    world.change(lambda row: row["messages"].append({"role": "assistant", "content": "x"}), first=1)


@in_data("error", "DATA.line", "messages, or audio_filepath")
def lines_of_another_format(world):
    world.write([{"wav": "a.wav", "txt": "a"}])


@in_data("error", "DATA.line", "empty file", "has no lines")
def an_empty_data_file(world):
    world.train.write_text("")


@in_data("error", "DATA.line", "missing file", "does not exist")
def a_data_file_that_is_not_there(world):
    world.valid = world.folder / "dev.jsonl"


@in_data("error", "DATA.line", "lists jsonl files")
def audio_for_a_data_file(world):
    world.valid = world.folder / "list.txt"
    world.valid.write_text("a.wav\n")


@in_data("error", "DATA.missing", "does not exist", "a random other row in its place")
def audio_that_is_not_there(world):
    world.wav(2).unlink()


@in_data("error", "DATA.missing", "does not exist", "Correct the paths")
def a_relative_path(world):
    def shorten(row):
        row["messages"][1]["content"] = row["messages"][1]["content"].replace(str(world.folder), "corpus")

    world.change(shorten)


@in_data("error", "DATA.damaged", "damaged", "ends 0.", "before the end that its header states")
def audio_that_is_cut_off(world):
    path = world.wav()
    path.write_bytes(path.read_bytes()[:8000])


@in_data("error", "DATA.damaged", "tiny000.wav")
def audio_of_no_bytes(world):
    world.wav().write_bytes(b"")


@in_data("error", "DATA.damaged", "tiny000.wav")
def a_text_named_wav(world):
    world.wav().write_text("404 not found")


@in_data("error", "DATA.duration", "beyond the end of their file")
def a_manifest_of_other_files(world):
    world.train = world.train.with_name("tiny.manifest.jsonl")
    world.change(lambda row: row.update(duration=row["duration"] + 2), first=1)


@in_data("note", "DATA.channels", "several channels", "mixes both speakers")
def a_stereo_call(world):
    add_sound(world, 1.0, channels=2)


@in_data("warning", "DATA.double_key", "'same'")
def keys_that_are_not_unique(world):
    world.change(lambda row: row.update(key="same"))


@in_data("warning", "DATA.double_audio", "counts twice")
def a_line_twice(world):
    rows = world.rows()
    world.write([*rows, {**rows[0], "key": "again"}])


@in_data("error", "DATA.same_file", "is named for training and for validation")
def validation_on_the_training_data(world):
    world.valid = world.train


@in_data("error", "DATA.overlap_audio", "share their audio")
def validation_rows_out_of_training(world):
    world.write([*world.rows("valid"), world.rows()[0]], "valid")


@in_data("warning", "DATA.overlap_key", "share their key")
def channel_versions_on_both_sides(world):
    world.change(lambda row: row.update(key="tiny001"), "valid", first=1)


# The folder of the run


@mistake("error", "RUN.same", "holds the model that training starts from")
def the_model_as_the_output(world):
    world.out = world.folder / "model"


@in_data("warning", "RUN.stale", "another run (step 7)", "optim_conf.lr: 0.5 -> ")
def the_folder_of_another_run(world):
    step = world.out / "checkpoints" / "step-7-last"
    step.mkdir(parents=True)
    (step / "state.json").write_text(json.dumps({"progress": {"step": 7}}))
    (world.out / "config.yaml").write_text("optim_conf: {lr: 0.5}\n")


@in_data("warning", "RUN.funasr", "model.pt", "resumes from output_dir/model.pt")
def the_folder_of_a_run_of_funasr(world):
    world.out.mkdir()
    (world.out / "model.pt").write_bytes(b"x")


@in_data("error", "RUN.file", "is a file")
def a_file_as_the_output(world):
    world.out.write_text("x")


def test_there_are_forty_mistakes():
    assert len(MISTAKES) + len(IN_DATA) >= 40


def test_a_sound_fine_tuning_has_no_error_and_no_false_alarm(world):
    report = world.report("++train_conf.use_bf16=false", "++scheduler_conf.warmup_steps=1")
    assert [(finding.code, finding.what) for finding in report.errors + report.warnings] == []


@pytest.mark.parametrize("name", MISTAKES)
def test_the_message_names_the_cause(name, world):
    plant, level, words = MISTAKES[name]
    plant(world)
    check(world.report(), level, words)


@pytest.mark.parametrize("name", IN_DATA)
def test_the_message_names_the_cause_in_the_data(name, world, sound):
    plant, level, words = IN_DATA[name]
    plant(world)
    check(world.report_on(sound), level, words)


def check(report: Report, level: str, words: tuple[str, ...]) -> None:
    """One finding of the level says all words."""
    said = [
        " ".join((finding.code, finding.what, finding.cause, finding.cure))
        for finding in report.findings
        if finding.level == level
    ]
    assert any(all(word in text for word in words) for text in said), report.text()
    assert report.failed() == (level == "error" or bool(report.errors))


def test_a_conformer_with_infeasible_texts_gets_its_own_advice(conformer_world):
    conformer_world.words.append("++ctc_weight=0.3")
    conformer_world.change(lambda row: set_text(row, "abcdefghijkl" * 2))
    said = conformer_world.report().text()
    assert "CTC.infeasible" in said and "subsampling_factor=4" in said and "combine_time_steps 4" in said


def test_a_full_disk_is_foreseen(world, monkeypatch):
    usage = shutil._ntuple_diskusage(1000, 999, 1)
    monkeypatch.setattr("nest_ssl.preflight.resources.shutil.disk_usage", lambda path: usage)
    assert "RES.disk" in [finding.code for finding in world.report().errors]


def test_a_small_device_is_foreseen(world, monkeypatch):
    monkeypatch.setattr("nest_ssl.preflight.resources.device_memory", lambda device: 1000)
    assert "RES.memory" in [finding.code for finding in world.report().errors]
