"""An encoder as files that others load without crrl-fast: safetensors, torch.export and ONNX."""

from crrl_fast.export.exporter import DEFAULT_FORMATS, FORMATS, ExportedFile, export_encoder

__all__ = ["DEFAULT_FORMATS", "FORMATS", "ExportedFile", "export_encoder"]
