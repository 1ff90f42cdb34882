"""Parts of the `openai-images` generator. Private: use `allfour.models.generators.openai_images`."""
