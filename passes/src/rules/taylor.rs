//! First-order Taylor expansion of linear maps around a root point.

use lrpc_ir::Diagnostic;

use super::shares::constant_input;
use super::{EPS, ParameterDef, RuleDef, STABILISER};
use crate::relevance::builder::{Built, RelevanceBuilder};
use crate::relevance::composite::Parameter;
use crate::relevance::site::{Flow, Site};

const DOC: &str = "
# Formula
With J = W, the Jacobian of a linear map at any point: `form=root` expands around the root point x₀ and shares R among the
differences, s = R / S((x − x₀)W), R_x = (x − x₀) ⊙ VJP_W(s); `form=input` weighs the input with the Jacobian at x₀,
s = R / S(xW), R_x = x ⊙ VJP_W(s), in which x₀ does not matter, as the Jacobian of a linear map is the same everywhere. The
bias belongs to neither.

# Conserves?
Up to the stabiliser's share, which is in the ledger. With x₀ other than 0 it puts relevance where x = 0.

# Use when
Inputs whose neutral value is not 0: a mean colour, a baseline. With x₀ = 0 both forms are the ε rule with `bias=exclude`.

# Parameters
`x0`: the root point; a number, a list with one number per channel, or `zero`. `form`: `root` or `input`.
`eps`, `stabiliser`: stabiliser of the denominator.

# Reference
Montavon et al. 2017, section 4: one root point x₀ for all outputs, R_x = (x − x₀) ⊙ ∂R/∂x (`form=root`); Bach et al. 2015,
eq. 15.

# Example graph
%dx.y = sub %p.x, %x0.y; %D.y = sub %z.y, %D.y.1; %s.y = ratio %R.y, %S.y; %t.y = dot %s.y, @w {contract=1x1};
%R.x = weigh %dx.y, %t.y
";

const X0: ParameterDef = ParameterDef {
    name: "x0",
    doc: "the root point: a number, a list with one number per channel, or `zero`",
    default: || Parameter::Word("zero".into()),
};
const FORM: ParameterDef = ParameterDef {
    name: "form",
    doc: "`root`: R is shared among the differences x − x₀; `input`: among the inputs themselves",
    default: || Parameter::Word("root".into()),
};

pub(super) const RULE: RuleDef =
    RuleDef { name: "Taylor", doc: DOC, parameters: &[X0, FORM, EPS, STABILISER], classes: &["linear"], emit };

fn emit(b: &mut RelevanceBuilder, site: &Site) -> Built<Vec<Flow>> {
    let linear = site.linear(b)?;
    let root = match (site.word("form")?, site.parameters.get("x0")) {
        ("input", _) => None,
        ("root", Some(Parameter::Word(word))) if word == "zero" => None,
        ("root", Some(point)) => Some(constant_input(b, &linear, "x0", point)?),
        ("root", None) => None,
        (other, _) => return Err(Diagnostic::request(format!("`form` is `root` or `input`, not `{other}`"))),
    };
    let x = b.activation(linear.input)?;
    let z = linear.output_without_bias(b)?;
    let (shape, out) = (b.ty(x).shape, b.ty(z).shape);
    let (difference, denominator) = match root {
        None => (x, z),
        Some(root) => {
            let response = linear.forward(b, root, linear.weight, "D")?;
            let response = b.broadcast(response, &out, "D")?;
            let root = b.broadcast(root, &shape, "x0")?;
            (b.sub(x, root, "dx")?, b.sub(z, response, "D")?)
        }
    };
    let relevance = site.relevance(b)?;
    let s = b.quotient(relevance, denominator, site.stabiliser()?, "s")?;
    let back = linear.transpose(b, s, linear.weight, "t")?;
    if root.is_none() {
        return site.flows(b, |_, _| Ok(Flow::Times(back)));
    }
    let result = b.weigh(difference, back, "part")?;
    site.flows(b, |_, _| Ok(Flow::Relevance(result)))
}

#[cfg(test)]
mod tests {
    use crate::testing::{apply_rule, check_rule};

    const FC: &str = r#"
        input %x : f32[N, 3]
        weight @w : f32[3, 5]
        weight @b : f32[5]
        forward
          %y = dot %x, @w, @b {contract=1x0} : f32[N, 5] from "/fc"
        result "output/y" = %y
        "#;

    #[test]
    fn taylor() {
        check_rule("taylor", "Taylor", "x0 = [0.5, -1.0, 0.25]", FC);
    }

    #[test]
    fn wrong_parameters_are_refused() {
        for (with, expected) in [
            ("form = 'both'", "`form` is `root` or `input`, not `both` (at /fc)"),
            ("x0 = 'one'", "`x0` is a number or a list, not one (at /fc)"),
            ("x0 = [1.0]", "`x0` has 1 numbers, not one per channel (at /fc)"),
        ] {
            assert_eq!(apply_rule("Taylor", with, FC).unwrap_err().to_string(), expected);
        }
    }
}
