//! Operators that are known and refused, each with its reason.

use super::table::OpDef;

/// Two tools never draw the same numbers, not even from one seed.
const RANDOM: &str = "it draws random numbers: export the model for inference, or make the numbers an input";
const SEQUENCE: &str = "sequences of tensors are not supported: export the model with one tensor for each element";
const OPTIONAL: &str = "optional values are not supported: export the model with the value or without it";
const TEXT: &str =
    "text is not supported: do what comes before the numbers outside of the model, and make them an input";
const IMAGE: &str = "compressed images are not decoded here: make the pixels an input";
const TRAINING: &str = "it is a part of training: export the model for inference";

pub(super) const OPERATORS: &[OpDef] = &[
    OpDef::refused("", "Bernoulli", RANDOM),
    OpDef::refused("", "Multinomial", RANDOM),
    OpDef::refused("", "RandomNormal", RANDOM),
    OpDef::refused("", "RandomNormalLike", RANDOM),
    OpDef::refused("", "RandomUniform", RANDOM),
    OpDef::refused("", "RandomUniformLike", RANDOM),
    OpDef::refused("", "ConcatFromSequence", SEQUENCE),
    OpDef::refused("", "SequenceAt", SEQUENCE),
    OpDef::refused("", "SequenceConstruct", SEQUENCE),
    OpDef::refused("", "SequenceEmpty", SEQUENCE),
    OpDef::refused("", "SequenceErase", SEQUENCE),
    OpDef::refused("", "SequenceInsert", SEQUENCE),
    OpDef::refused("", "SequenceLength", SEQUENCE),
    OpDef::refused("", "SequenceMap", SEQUENCE),
    OpDef::refused("", "SplitToSequence", SEQUENCE),
    OpDef::refused("", "Optional", OPTIONAL),
    OpDef::refused("", "RegexFullMatch", TEXT),
    OpDef::refused("", "StringConcat", TEXT),
    OpDef::refused("", "StringNormalizer", TEXT),
    OpDef::refused("", "StringSplit", TEXT),
    OpDef::refused("", "TfIdfVectorizer", TEXT),
    OpDef::refused("", "ImageDecoder", IMAGE),
    OpDef::refused("ai.onnx.preview.training", "Adagrad", TRAINING),
    OpDef::refused("ai.onnx.preview.training", "Adam", TRAINING),
    OpDef::refused("ai.onnx.preview.training", "Gradient", TRAINING),
    OpDef::refused("ai.onnx.preview.training", "Momentum", TRAINING),
];
