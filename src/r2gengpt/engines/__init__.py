"""Language models of ours in other programs: llama.cpp and vLLM. What they are asked for, and the files they read."""
