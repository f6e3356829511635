from test_sampler_step_torch import *  # noqa: F403
