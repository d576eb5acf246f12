/* Recurrent layers, attention and rotary embedding of the C DSL. Batches come first here, [N,T,features]; ONNX's recurrent
 * operators want time first and give the directions a dim of their own, so each layer stands between two transposes that the
 * compiler folds into its loops. */
#include "frontend/dsl.h"

#include <math.h>

/* ---- recurrence ------------------------------------------------------------------------------------------------- */
typedef struct Cell {
    Op op;
    int64_t gates;
    uint32_t outputs; /* sequence, h and, for the LSTM, c */
    AttrSlot hidden_size, direction;
} Cell;

static const Cell lstm_cell = {OP_LSTM, 4, 3, AT_LSTM_hidden_size, AT_LSTM_direction};
static const Cell gru_cell = {OP_GRU, 3, 2, AT_GRU_hidden_size, AT_GRU_direction};
static const Cell rnn_cell = {OP_RNN, 1, 2, AT_RNN_hidden_size, AT_RNN_direction};

/* [T,D,N,H] to [N,T,D*H] */
static LatheValue batch_first(LatheValue y, int64_t width) {
    return lathe_reshape(lathe_transpose(y, (int64_t[]){2, 0, 1, 3}), 3, (int64_t[]){0, 0, width});
}

/* [D,N,H] to [N,D*H] */
static LatheValue state_by_batch(LatheValue h, int64_t width) {
    return lathe_reshape(lathe_transpose(h, (int64_t[]){1, 0, 2}), 2, (int64_t[]){0, width});
}

static LatheSequence recurrent(LatheValue x, const Cell *cell, int64_t hidden, const char *name, const LatheRecurrence *o) {
    const LatheRecurrence defaults = {0};
    LatheSequence s = {{0}, {0}, {0}};
    if (o == NULL) o = &defaults;
    if (!dsl_check_rank(x, cell->op, name, 3, 3, "[N,T,features]")) return s;
    int64_t in = dsl_channels(x, 2, cell->op, name, 0);
    if (!dsl_check_positive(x.model, cell->op, name, "the hidden size", hidden) || in < 0) return s;
    LatheModel *m = x.model;
    DType dtype = dsl_dtype(x);
    int64_t directions = o->bidirectional ? 2 : 1, rows = cell->gates * hidden;
    LatheInit init = lathe_uniform(-1 / sqrt((double)hidden), 1 / sqrt((double)hidden));
    LatheValue in_values[7] = {
        lathe_transpose(x, (int64_t[]){1, 0, 2}),
        dsl_layer_param(m, name, "weight", dtype, 3, (int64_t[]){directions, rows, in}, o->init, init),
        dsl_layer_param(m, name, "recurrence", dtype, 3, (int64_t[]){directions, rows, hidden}, o->init, init),
        dsl_layer_param(m, name, "bias", dtype, 2, (int64_t[]){directions, 2 * rows}, o->init, init),
        {0}, o->h, o->c,
    };
    DslNode spec = {.op = cell->op, .name = name, .n_in = cell->outputs == 3 ? 7 : 6, .n_out = cell->outputs, .in = in_values, .optional = 0x70};
    dsl_int(&spec, cell->hidden_size, hidden);
    dsl_string(&spec, cell->direction, o->bidirectional ? "bidirectional" : o->reverse ? "reverse" : "forward");
    if (cell->op == OP_GRU) dsl_int(&spec, AT_GRU_linear_before_reset, !o->reset_first);
    LatheValue out[3] = {{0}, {0}, {0}};
    dsl_node_outputs(m, &spec, out);
    s.sequence = batch_first(out[0], directions * hidden);
    s.h = state_by_batch(out[1], directions * hidden);
    s.c = state_by_batch(out[2], directions * hidden);
    return s;
}

LatheSequence lathe_lstm(LatheValue x, int64_t hidden, const char *name, const LatheRecurrence *o) { return recurrent(x, &lstm_cell, hidden, name, o); }
LatheSequence lathe_gru(LatheValue x, int64_t hidden, const char *name, const LatheRecurrence *o) { return recurrent(x, &gru_cell, hidden, name, o); }
LatheSequence lathe_rnn(LatheValue x, int64_t hidden, const char *name, const LatheRecurrence *o) { return recurrent(x, &rnn_cell, hidden, name, o); }

/* ---- attention -------------------------------------------------------------------------------------------------- */
LatheValue lathe_attention(LatheValue q, LatheValue k, LatheValue v, LatheValue mask, const LatheAttention *o) {
    const LatheAttention defaults = {0};
    if (o == NULL) o = &defaults;
    if (!dsl_check_rank(q, OP_Attention, NULL, 3, 4, "[N,H,T,E] or [N,T,H*E]")) return (LatheValue){0};
    if (lathe_rank(q) == 3 && o->heads == 0) {
        dsl_problem(q.model, SEV_ERROR, OP_Attention, NULL, "q is %s: the number of heads must be given", dsl_type_text(q));
        return q;
    }
    DslNode spec = {.op = OP_Attention, .n_in = mask.id != 0 ? 4 : 3, .in = (LatheValue[]){q, k, v, mask}, .recover = &q};
    dsl_int(&spec, AT_Attention_is_causal, o->causal);
    if (o->scale != 0) dsl_float(&spec, AT_Attention_scale, o->scale);
    if (o->softcap != 0) dsl_float(&spec, AT_Attention_softcap, o->softcap);
    if (lathe_rank(q) == 3) {
        dsl_int(&spec, AT_Attention_q_num_heads, o->heads);
        dsl_int(&spec, AT_Attention_kv_num_heads, o->kv_heads != 0 ? o->kv_heads : o->heads);
    }
    return dsl_node(q.model, &spec);
}

LatheValue lathe_rope(LatheValue x, LatheValue cosine, LatheValue sine, LatheValue positions, bool interleaved) {
    DslNode spec = {.op = OP_RotaryEmbedding, .n_in = 4, .in = (LatheValue[]){x, cosine, sine, positions}, .recover = &x};
    dsl_int(&spec, AT_RotaryEmbedding_interleaved, interleaved);
    return dsl_node(x.model, &spec);
}
