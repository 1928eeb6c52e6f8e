"""Our own FHIR endpoint for interactive multimedia reports (IHE RAD IMR): what it holds, finds, and says of itself."""
