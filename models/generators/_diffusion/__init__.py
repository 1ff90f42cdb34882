"""Parts of the backend `stable-diffusion`; nothing outside of it imports them."""
