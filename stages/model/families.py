"""What is special to a family of backbones: how its parts are called. Nowhere else is it said."""

import re

# Neither quantised nor adapted: what chooses (routers, and indexers of the tokens attended to), and
# small matrices whose model computes with the weight itself (Gemma 3n, Mamba).
LEFT = re.compile(
    r"(^|\.)(router|gate|shared_expert_gate|indexer|correction_coefs|prediction_coefs|dt_proj)(\.|$)"
)
# Where experts lie: modules each, or one parameter of three dimensions for all.
EXPERTS = re.compile(r"(^|\.)experts(\.|$)")
# Parameters of several dimensions that are no matrices: of recurrences, and what is looked up.
NO_MATRIX = re.compile(r"bias|embed|A_log|dt_|time_|gate_weight")
# Parts of a multimodal checkpoint that no text goes through.
OTHER_SENSES = re.compile(r"vision|visual|image|audio|speech|multi_modal|mm_")
# Modules in a text's layers that no text goes through: of layouts, entities, global attention and
# attention to another model's tokens; and what Zamba 2 lists for layers that have none.
ASIDE = re.compile(
    r"\.(layout_\w+|\w+_global|(w2e|e2w|e2e)_query|encoder_attn|cross_attn|crossattention"
    r"|\w+_adapter_list)(\.|$)"
)
# What stands on an encoder's layers and is not read.
POOLER = re.compile(r"(^|\.)pooler(_|\.|$)")
# What a configuration calls chance in training; the adapter's dropout is the only one that stays.
CHANCE = re.compile(r"drop|jitter|noise")
# Linear modules of a class of their own that compute what nn.Linear does.
LINEAR = {"FalconLinear"}
# Mamba's kernels read these weights past their module, so that an adapter there would do nothing.
MAMBA = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
READ_PAST = {"out_proj", "conv1d"}
