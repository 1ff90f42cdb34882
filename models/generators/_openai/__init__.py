"""Parts of the `openai-images` generator. Private: use `models.generators.openai_images`."""
