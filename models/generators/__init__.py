"""Text into images: one file per backend, and beside it a folder of its parts where it has several.

base
    The protocol, with every optional part and its default.
stable_diffusion (_diffusion), openai_images and images_batch (_openai), comfyui and web_ui (_local), portrait_renderer (_portrait)
    Backends. What asks a hosted API shares `allfour.models._hosted`.
"""
