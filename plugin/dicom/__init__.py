"""Reading and writing DICOM: headers, pixels, segmentations, structured reports."""
