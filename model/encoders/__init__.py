"""Published encoders that a site may bring: BioViL and BioViL-T for images, CXR-BERT for phrases."""
