"""Keys of FunASR's configuration that somebody reads, FunASR or this package."""

# One string per section: easier to read, and to compare with a YAML, than a list.
TOP = """
    model model_conf audio_encoder audio_encoder_conf llm llm_conf audio_adaptor audio_adaptor_conf
    ctc_decoder ctc_decoder_conf ctc_weight ctc_vocab_size ctc_conf detach_ctc_decoder
    ctc_detach_encoder frontend frontend_conf train_conf optim optim_conf scheduler scheduler_conf
    dataset dataset_conf tokenizer tokenizer_conf init_param output_dir enable_tf32 debug
    train_data_set_list valid_data_set_list nest_ssl freeze_param lora_only lora_bias specaug
    specaug_conf normalize normalize_conf input_size seed device ngpu ncpu hub model_path model_revision
    kwargs max_token_length multiturn_num_max excludes ignore_init_mismatch scope_map tearchforing
    log_level disable_pbar disable_update is_training trust_remote_code remote_code batch_size
    batch_type bf16 fp16 llm_dtype hotwords itn language config vad_model vad_kwargs
"""
SECTIONS = {
    "model_conf": "lsm_weight length_normalized_loss",
    "audio_encoder_conf": """
        output_size attention_heads linear_units num_blocks tp_blocks dropout_rate
        positional_dropout_rate attention_dropout_rate input_layer pos_enc_class normalize_before
        kernel_size sanm_shfit selfattention_layer_type feat_permute freeze freeze_layer_num
        activation_checkpoint hub init_param_path padding_idx stochastic_depth_rate input_size
    """,
    "llm_conf": """
        hub freeze llm_dtype init_param_path use_lora lora_conf load_kwargs activation_checkpoint
    """,
    "llm_conf.lora_conf": """
        freeze_lora task_type r lora_alpha lora_dropout target_modules bias init_param_path
    """,
    "audio_adaptor_conf": """
        downsample_rate use_low_frame_rate ffn_dim llm_dim encoder_dim n_layer freeze attention_heads
        dropout_rate attention_dropout_rate kernel_size init_param_path activation_checkpoint
    """,
    "ctc_decoder_conf": """
        downsample_rate use_low_frame_rate ffn_dim llm_dim encoder_dim n_layer freeze attention_heads
        dropout_rate attention_dropout_rate kernel_size init_param_path
    """,
    "ctc_conf": "dropout_rate ctc_type reduce ignore_nan_grad blank_id extra_linear freeze",
    "optim_conf": """
        lr weight_decay betas eps amsgrad name encoder_lr_factor layer_lr_decay momentum foreach fused
        maximize capturable
    """,
    "scheduler_conf": "warmup_steps total_steps min_lr d_model hold_steps decay_steps name",
    "dataset_conf.prompt_conf": """
        max_neg_hotwords_num min_neg_hotwords_num use_hist use_one_pass_result use_hotwords
        use_asr_hotwords chinese_hotwords_list english_hotwords_list
    """,
    "train_conf": """
        accum_grad grad_clip grad_clip_type max_epoch keep_nbest_models log_interval validate_interval
        save_checkpoint_interval avg_nbest_model avg_keep_nbest_models_type use_bf16 use_fp16 use_ddp
        use_fsdp use_deepspeed deepspeed_config save_init_model resume effective_save_name_excludes
        find_unused_parameters early_stopping_patience reset_gpu_cache start_step start_data_split_i
        use_wandb wandb_token wandb_project wandb_team wandb_exp_name max_steps monitor mode
        max_nonfinite_steps gradient_checkpointing tensorboard devices num_nodes accelerator seed
    """,
}
WAV_FRONTEND = """
    fs window n_mels frame_length frame_shift lfr_m lfr_n dither cmvn_file snip_edges filter_length_min
    filter_length_max upsacle_samples
"""
