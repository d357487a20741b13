#include "assets/world/train.h"

#include "assets/world/recogniser_train.h"
#include "assets/world/source.h"
#include "core/api.h"

calo_status world_train(calo_context *ctx, const calo_train_request *r) {
    return api_train(ctx, r, NULL, world_source_open, api_enter(ctx));
}

calo_status world_train_recogniser(calo_context *ctx, const calo_train_request *r) {
    return api_train(ctx, r, recogniser_recipe, NULL, api_enter(ctx));
}
