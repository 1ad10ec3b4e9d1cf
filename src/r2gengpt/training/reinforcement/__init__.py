"""Policy gradient on sampled reports: rewards, surrogate, the step. Runs no training by itself."""
