"""The programs behind the job types, and the recorder: a folder each. They never import each other."""
