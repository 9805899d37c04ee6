//! Score-based diffusion models: schedules, preconditioning, samplers, networks and training objectives.
