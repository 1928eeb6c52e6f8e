"""PixelMed's DicomSRValidator on several files in one Java machine: ``pixelmed_validate.py JAR FILE ...``.

Prints its answers as JSON by file. One machine, since the validator's stylesheets take 20 seconds to be compiled.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jpype

# XPath limits of JDK 17 that the validator's stylesheets exceed.
LIMITS = ("-Djdk.xml.xpathExprOpLimit=0", "-Djdk.xml.xpathTotalOpLimit=0", "-Djdk.xml.xpathExprGrpLimit=0", "-Xss64m")


def main(jar: str, *files: str) -> None:
    """Validate *files* with the classes of *jar* and of the other archives beside it."""
    jars = [jar, *map(str, sorted(Path(jar).parent.glob("*.jar")))]
    jpype.startJVM(*LIMITS, classpath=jars)
    validator = jpype.JClass("com.pixelmed.validate.DicomSRValidator")()
    print(json.dumps({file: str(validator.validate(file)) for file in files}))


if __name__ == "__main__":
    main(*sys.argv[1:])
